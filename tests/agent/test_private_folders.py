"""Nobody else can put folders or files of his own in the place of the agent's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.desktop import paths
from agent.desktop.paths import EXIT_UNSAFE
from protocol.link import build
from tests.support.daemon_process import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.display import VirtualDisplay

LINK = build("portal.example.com", "A" * 22)

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
    state = tmp_path / "the state" / "inlay"
    state.mkdir(parents=True)
    state.chmod(mode)
    for said in _said_by_agent_and_link(tmp_path, state.parent):
        assert said[1:] == [
            "inlay: Inlay's agent doesn't start.",
            f"  Why: Others than you may write to {state}, where your cards and keys are kept.",
            f"  Next: Run chmod go-w '{state}' and try again; if you don't know why others may, "
            "ask an administrator first.",
            "  (folder_open_to_others)",
        ]
    assert list(state.iterdir()) == []


def test_a_state_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state" / "inlay"
    state.parent.mkdir()
    if os.geteuid():
        state.symlink_to("/usr")
    else:
        state.mkdir(mode=0o700)
        os.chown(state, 65534, 65534)
    for said in _said_by_agent_and_link(tmp_path, state.parent):
        assert said[2] == f"  Why: {state}, where your cards and keys are kept, belongs to another user."
        assert said[-1] == "  (folder_foreign)"


@pytest.mark.parametrize("base", ["XDG_STATE_HOME", "XDG_CONFIG_HOME"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, base: str) -> None:
    file = tmp_path / "base" / "inlay"
    file.parent.mkdir()
    file.touch()
    for said in _said_by_agent_and_link(tmp_path, file.parent, base):
        assert said[2:] == [
            f"  Why: {file} is not a folder.",
            "  Next: Rename or remove that file, then try again.",
            "  (folder_is_none)",
        ]


@pytest.mark.interop
def test_a_refused_folder_is_said_in_a_window_where_there_is_no_terminal(
    tmp_path: Path, xvfb: VirtualDisplay
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "inlay").touch()
    shown = {name: xvfb.env[name] for name in ("DISPLAY", "XAUTHORITY")}
    link = _said_by_agent_and_link(tmp_path, tmp_path / "state", more=shown)[1]
    assert link[-1] == "  (folder_is_none)"
    window = xvfb.wait_for_window("Inlay's agent doesn't start")
    xvfb.xdotool("windowclose", window)


def _said_by_agent_and_link(
    folder: Path, base: Path, variable: str = "XDG_STATE_HOME", more: Mapping[str, str] | None = None
) -> list[list[str]]:
    """Exit status and lines of the agent itself, and of the link that would start it."""
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    environment = {"HOME": str(folder), variable: str(base), "XDG_RUNTIME_DIR": str(runtime), **(more or {})}
    found = []
    for module, status in ((["agent"], EXIT_UNSAFE), (["agent.desktop.link_handler", "open", "--", LINK], 1)):
        done = subprocess.run(
            [sys.executable, "-I", "-m", *module],
            env={**environment, "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        found.append([str(status), *done.stderr.splitlines()])
    return found


def test_a_folder_of_another_user_is_not_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    paths.check_not_others(str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(paths.UnsafePath) as caught:
        paths.check_not_others(str(tmp_path))
    assert caught.value.reason == "owner"
