"""Nobody else can put folders or files of his own in the place of the agent's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.desktop import paths
from tests.support.daemon_process import DaemonProcess

OPEN_TO_ALL = (
    "import os, sys; os.umask(0); from agent.__main__ import run; raise SystemExit(run(sys.argv[1:]))"
)


def test_whoever_started_the_agent_what_it_makes_is_its_users_alone(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path, ["-c", OPEN_TO_ALL]).start()
    try:
        daemon.ask_now("cards", {})
    finally:
        daemon.stop()
    made = [*daemon.home.rglob("*"), *daemon.runtime.rglob("*")]
    assert daemon.state in made
    assert [str(path) for path in made if path.lstat().st_mode & 0o077] == []


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_state_folder_in_which_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    state = tmp_path / "state" / "inlay"
    state.mkdir(parents=True)
    state.chmod(mode)
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    folders = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(state.parent), "XDG_RUNTIME_DIR": str(runtime)}
    done = subprocess.run(
        [sys.executable, "-I", "-m", "agent"],
        env={**folders, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"inlay: {state} is not private to you (mode).\n"
    assert list(state.iterdir()) == []


def test_a_folder_of_another_user_is_not_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    paths.check_not_others(str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(paths.UnsafePath) as caught:
        paths.check_not_others(str(tmp_path))
    assert caught.value.reason == "owner"
