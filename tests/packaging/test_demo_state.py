"""What a demo has started is ended, and nothing else ever is."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

DEMO_STATE = Path(__file__).parents[2] / "packaging" / "demo_state.py"
STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(flush=True)
signal.pause()
"""


@pytest.fixture
def demo_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with a folder of the test's own."""
    spec = importlib.util.spec_from_file_location("demo_state_under_test", DEMO_STATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "demo")
    monkeypatch.setattr(module, "_STATE", tmp_path / "demo" / "state.json")
    (tmp_path / "demo").mkdir()
    return module


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A program that goes on until it is ended."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as running:
        yield running
        running.kill()


def test_nothing_was_started(demo_state: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """No record: said, and no error."""
    assert demo_state.main() == 0
    assert "nothing was left running" in capsys.readouterr().out


def test_another_process_with_the_same_id_lives(
    demo_state: ModuleType, process: subprocess.Popen[bytes]
) -> None:
    """A process id that was given to somebody else meanwhile is left alone."""
    state = demo_state.State()
    state.started("agent", process.pid)
    state.processes["agent"]["started"] -= 1
    assert state.running() == []
    assert state.end() == []
    assert process.poll() is None


def test_ended_and_forgotten(
    demo_state: ModuleType, process: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is on record ends, by another run of the command; then there is no record."""
    demo_state.State().started("agent", process.pid)
    assert demo_state.State.read().running() == ["agent"]
    assert demo_state.main() == 0
    assert process.wait(10) == -signal.SIGTERM
    assert f"ended agent (process {process.pid})" in capsys.readouterr().out
    assert demo_state.State.read() is None


def test_killed_when_it_does_not_listen(demo_state: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked first, killed after a time."""
    monkeypatch.setattr(demo_state, "_TERM_SECONDS", 0.3)
    argv = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        state = demo_state.State()
        state.started("agent", stubborn.pid)
        state.end()
        assert stubborn.wait(10) == -signal.SIGKILL


def test_an_ended_process_has_no_start_time(demo_state: ModuleType) -> None:
    """Neither one that is gone, nor one that nobody has waited for yet."""
    with subprocess.Popen(["true"], stdout=subprocess.PIPE) as ended:
        assert ended.stdout is not None
        ended.stdout.read()
        while demo_state.start_time(ended.pid) is not None:
            pass
    assert demo_state.start_time(ended.pid) is None
