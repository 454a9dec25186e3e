"""Who opens inlay: links: real xdg-mime, xdg-open and update-desktop-database in a throw-away home."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from agent.desktop import cli, register, url_handler
from protocol.link import build
from tests.agent.desktop.fake_daemon import FakeDaemon
from tests.support.display import VirtualDisplay

LINK = build("portal.example.com", "A" * 22)

pytestmark = pytest.mark.usefixtures("throwaway_home")


def problem() -> str | None:
    found = url_handler.status().problem
    return found.code if found else None


def foreign_entry(name: str) -> Path:
    path = register.entry_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "[Desktop Entry]\nType=Application\nName=X\nExec=/bin/true %u\nMimeType=x-scheme-handler/inlay;\n"
    path.write_text(text)
    return path


def make_default(name: str) -> None:
    subprocess.run(["xdg-mime", "default", name, url_handler.SCHEME_TYPE], check=True)


def test_nothing_registered_is_said_with_the_next_step() -> None:
    found = url_handler.status()
    assert found.problem is not None
    assert found.problem.code == "link_entry_missing"
    assert "inlay link register" in found.problem.next_step
    assert not found.working


def test_the_check_at_start_does_not_register_what_was_never_registered() -> None:
    assert url_handler.check_and_repair().problem is not None
    assert not register.entry_path().exists()


def test_another_default_is_named_and_left_alone() -> None:
    url_handler.register()
    foreign_entry("other.desktop")
    make_default("other.desktop")
    found = url_handler.check_and_repair()
    assert found.problem is not None
    assert found.problem.code == "link_other_default"
    assert "other.desktop" in found.problem.why
    assert found.default == "other.desktop"


def test_an_entry_of_somebody_else_is_not_removed() -> None:
    entry = foreign_entry(register.ENTRY_NAME)
    url_handler.unregister()
    assert entry.exists()


def test_a_missing_interpreter_is_found_and_repaired() -> None:
    url_handler.register()
    launcher = register.launcher_path()
    launcher.write_text(register.launcher_text("/nowhere/bin/python"))
    assert problem() == "link_interpreter_missing"
    launcher.write_text(register.launcher_text("/no where/bin/python"))
    assert problem() == "link_interpreter_missing"
    assert url_handler.check_and_repair().working
    assert problem() is None


def test_a_missing_launcher_is_found_and_repaired() -> None:
    url_handler.register()
    register.launcher_path().unlink()
    assert problem() == "link_launcher_missing"
    assert url_handler.check_and_repair().working


def test_an_outdated_entry_is_found_and_repaired() -> None:
    url_handler.register()
    entry = register.entry_path()
    entry.write_text(entry.read_text().replace("Name=Inlay", "Name=Old"))
    assert problem() == "link_entry_outdated"
    assert url_handler.check_and_repair().working


def test_registered_entries_are_valid_by_the_desktops_own_tool() -> None:
    url_handler.register()
    for name in register.ENTRY_NAMES:
        checked = subprocess.run(
            ["desktop-file-validate", str(register.entry_path(name))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (checked.returncode, checked.stdout) == (0, "")


def test_unregistering_leaves_nothing_behind(throwaway_home: Path) -> None:
    before = {path for path in throwaway_home.rglob("*") if path.is_file()}
    lists = register.config_home() / "mimeapps.list"
    lists.write_text("[Default Applications]\ntext/plain=vi.desktop\nx-scheme-handler/inlay=other.desktop;\n")
    url_handler.register()
    assert "inlay.desktop" in lists.read_text()
    url_handler.unregister()
    assert "inlay.desktop" not in lists.read_text()
    assert "text/plain=vi.desktop" in lists.read_text()
    left = {path for path in throwaway_home.rglob("*") if path.is_file()} - before
    assert {path.name for path in left} <= {"mimeapps.list", "mimeinfo.cache"}
    assert all("inlay.desktop" not in path.read_text() for path in left)


def test_a_home_with_odd_characters_works(throwaway_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = throwaway_home / 'o d$d "100%" \\x'
    odd.mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(odd))
    url_handler.register()
    text = register.entry_path().read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("Exec=")]
    assert "%%" in line
    assert line.endswith(" open -- %u")
    assert url_handler.status().entry == str(register.entry_path())


@pytest.mark.interop
def test_a_link_given_to_xdg_open_reaches_the_agent(
    xvfb: VirtualDisplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    url_handler.register()
    names = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")
    environment = xvfb.env | {name: os.environ[name] for name in names}
    with FakeDaemon({"result": {}}) as daemon:
        subprocess.run(["xdg-open", LINK], env=environment, check=True, timeout=60, stdin=subprocess.DEVNULL)
    (request,) = daemon.requests
    assert request["params"]["link"] == LINK
    assert request["params"]["environment"]["DISPLAY"] == xvfb.name


def test_the_command_tells_how_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["link", "status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "link_entry_missing"
    assert cli.run(["link", "status"]) == 1
    assert "Next: Run: inlay link register" in capsys.readouterr().err
    assert cli.run(["link", "register"]) == 0
    assert cli.run(["link", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["working"] is True
    assert cli.run(["link", "unregister"]) == 0
    assert cli.run(["link", "status"]) == 1
