"""Windows that a command opens by itself: an error, and typing in a code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.desktop import register
from tests.agent.desktop.fake_daemon import FakeDaemon
from tests.support.display import VirtualDisplay
from tests.support.person import cursor_in_field
from tests.support.processes import Child, wait_until

pytestmark = pytest.mark.interop

PORTALS = {"result": {"portals": [{"portal": "one.example"}, {"portal": "two.example:8443"}]}}
NAMES = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME")


@pytest.fixture
def command(throwaway_home: Path) -> str:
    register.write_files()
    return str(register.launcher_path())


@pytest.fixture
def environment(xvfb: VirtualDisplay, command: str) -> dict[str, str]:
    return xvfb.env | {name: os.environ[name] for name in NAMES}


@pytest.fixture
def clean_screen(xvfb: VirtualDisplay) -> Iterator[None]:
    yield
    for window in xvfb.windows("Inlay"):
        xvfb.run("xdotool", "windowclose", window)


@pytest.mark.usefixtures("clean_screen")
def test_a_bad_link_without_a_terminal_is_explained_in_one_window_however_often_it_comes(
    xvfb: VirtualDisplay, command: str, environment: dict[str, str]
) -> None:
    for _ in range(4):
        done = subprocess.run(
            [command, "open", "--", "inlay:portal.example.com"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 1
        assert "(link_malformed)" in done.stderr
        xvfb.wait_for_window("This link can't be opened")
    assert len(xvfb.windows("This link can't be opened")) == 1
    xvfb.xdotool("key", "Escape")
    wait_until(lambda: not xvfb.windows("This link can't be opened"), "the window to close")
    subprocess.run(
        [command, "open"], env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    xvfb.wait_for_window("This link can't be opened")


@pytest.mark.usefixtures("clean_screen")
def test_the_code_window_gives_nothing_when_it_is_closed(
    xvfb: VirtualDisplay, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with FakeDaemon(PORTALS) as daemon, code_window(xvfb, command, environment, tmp_path) as child:
        xvfb.xdotool("type", "ABCDE")
        xvfb.xdotool("key", "Return", "Escape")
        assert child.process.wait(20) == 1
    assert [request["method"] for request in daemon.requests] == ["trust.list"]


@pytest.mark.usefixtures("clean_screen")
def test_the_code_window_hands_over_portal_and_code(
    xvfb: VirtualDisplay, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    with (
        FakeDaemon(
            lambda request: PORTALS if request["method"] == "trust.list" else {"result": {}}
        ) as daemon,
        code_window(xvfb, command, environment, tmp_path) as child,
    ):
        xvfb.xdotool("type", "abcde-fghjk")
        xvfb.xdotool("key", "shift+Tab", "Down")
        wait_until(lambda: list_is_open(xvfb), "the list of portals", evidence=xvfb.tree)
        xvfb.xdotool("key", "Down", "Return")
        wait_until(lambda: not list_is_open(xvfb), "the list to close", evidence=xvfb.tree)
        xvfb.xdotool("key", "Return")
        assert child.process.wait(20) == 0
    parameters = daemon.requests[1]["params"]
    assert parameters["code"] == "ABCDEFGHJK"
    assert parameters["portal"] == "two.example:8443"
    assert parameters["environment"]["DISPLAY"] == xvfb.name


@contextmanager
def code_window(
    xvfb: VirtualDisplay, command: str, environment: dict[str, str], folder: Path
) -> Iterator[Child]:
    """``inlay code``, its window's field ready to be typed in."""
    child = Child([command, "code"], log=folder / "code.log", env=environment)
    try:
        window = xvfb.wait_for_window("Enter a code")
        wait_until(lambda: cursor_in_field(xvfb, window), "the cursor in the field", evidence=child.output)
        yield child
    finally:
        child.stop()


def list_is_open(xvfb: VirtualDisplay) -> bool:
    """Whether a list to choose from has the mouse to itself: a key goes there."""
    return bool(xvfb.windows("^popdown$"))


def test_a_window_appears_though_its_first_request_was_overlooked(
    command: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    manager = [sys.executable, "-m", "tests.support.forgetful_manager"]
    with VirtualDisplay(tmp_path_factory.mktemp("forgetful"), manager=manager) as screen:
        subprocess.run(
            [command, "open"],
            env=screen.env | {name: os.environ[name] for name in NAMES},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        screen.wait_for_window("This link can't be opened")
