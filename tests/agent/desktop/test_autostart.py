"""Starting at log-in: whose entry counts, switching it on and off, and what is wrong with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.desktop import autostart, cli_agent, register

pytestmark = pytest.mark.usefixtures("throwaway_home", "own_machine")


@pytest.fixture
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's configuration folder."""
    folder = tmp_path / "etc"
    (folder / "autostart").mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_DIRS", f"relative:{folder}")
    return folder


def machine_entry(own_machine: Path, text: str) -> None:
    (own_machine / "autostart" / autostart.ENTRY_NAME).write_text(
        f"[Desktop Entry]\nType=Application\n{text}\n"
    )


def files(home: Path) -> set[Path]:
    return {path for path in home.rglob("*") if path.is_file()}


def test_an_entry_of_somebody_else_is_neither_written_over_nor_removed() -> None:
    path = autostart.entry_path()
    path.parent.mkdir(parents=True)
    path.write_text("[Desktop Entry]\nExec=/bin/true\n")
    for act in (autostart.turn_on, autostart.turn_off, autostart.status):
        found = act()
        assert found.problem is not None
        assert found.problem[0] == "autostart_foreign"
    autostart.repair()
    assert path.read_text() == "[Desktop Entry]\nExec=/bin/true\n"


@pytest.mark.parametrize("line", ["", "Exec=", "Exec=/nowhere/python -I -m agent", 'Exec="unclosed'])
def test_an_entry_that_starts_nothing_is_no_autostart(own_machine: Path, line: str) -> None:
    machine_entry(own_machine, line)
    found = autostart.status()
    assert not found.on
    assert found.problem is not None
    assert found.problem[0] == "autostart_broken"


def test_what_can_not_be_written_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    register.config_home().joinpath("autostart").write_text("a file in the folder's place")
    assert cli_agent.run(["autostart", "on", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "autostart_unwritable"


def test_nothing_is_there_at_first_and_off_twice_is_off(throwaway_home: Path) -> None:
    before = files(throwaway_home)
    assert autostart.status() == autostart.Status(False, None)
    assert not autostart.turn_off().on
    assert files(throwaway_home) == before


def test_a_machine_wide_entry_is_switched_off_for_this_user_alone_and_on_again(own_machine: Path) -> None:
    machine_entry(own_machine, f"Exec={sys.executable} -I -m agent")
    assert autostart.status().on
    assert not autostart.turn_off().on
    assert "Hidden=true" in autostart.entry_path().read_text()
    autostart.repair()
    assert not autostart.status().on
    assert autostart.turn_on().on
    assert (own_machine / "autostart" / autostart.ENTRY_NAME).exists()


def test_an_interpreter_that_has_moved_is_found_and_mended_at_the_next_start() -> None:
    autostart.turn_on()
    path = autostart.entry_path()
    path.write_text(path.read_text().replace(sys.executable, "/nowhere/python"))
    problem = autostart.status().problem
    assert problem is not None
    assert problem[0] == "autostart_broken"
    autostart.repair()
    assert autostart.status().on


def test_the_entry_starts_this_interpreter_isolated_and_is_valid() -> None:
    assert autostart.turn_on().on
    text = autostart.entry_path().read_text()
    assert f"Exec={sys.executable} -I -m agent\n" in text
    assert os.path.isabs(sys.executable)
    checked = subprocess.run(
        ["desktop-file-validate", str(autostart.entry_path())], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_on_status_and_off_as_commands(throwaway_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(throwaway_home)
    assert cli_agent.run(["autostart", "on"]) == 0
    assert "starts when you log in" in capsys.readouterr().out
    assert cli_agent.run(["autostart", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"on": True, "entry": str(autostart.entry_path())}
    assert cli_agent.run(["autostart", "off"]) == 0
    assert "not at log-in" in capsys.readouterr().out
    assert files(throwaway_home) == before
    assert cli_agent.run(["autostart"]) == 2
    assert cli_agent.run(["autostart", "maybe"]) == 2
