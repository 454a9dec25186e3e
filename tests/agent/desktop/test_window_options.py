"""What others have written into the display's resources counts for nothing in Inlay's windows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.desktop import dialog_process
from agent.desktop.dialog_process import WindowProcess, Windows
from agent.pin_rules import PinRules
from agent.ports import KnownSecret, OrderPrompt, UserCancelled, UserEnvironment
from tests.agent.desktop.test_order_window import Person
from tests.support.display import VirtualDisplay

PROMPT = OrderPrompt(
    portal_name="Inlay",
    origin="",
    account="",
    title="Change the PIN of a card",
    consequences=("The card gets another PIN.",),
    pin_policy=PinRules(),
    card="Card (serial 12)",
    known=KnownSecret("PIN of the card", 6, 8),
)

EVERY_WIDGET = """
import sys, tkinter
from tkinter import ttk
from agent.desktop.window_options import leave_open_to_nobody
root = tkinter.Tk(className="Inlay")
if sys.argv[1] == "guarded":
    leave_open_to_nobody(root)
makers = (tkinter.Frame, tkinter.Label, tkinter.Canvas, tkinter.Listbox, ttk.Button, ttk.Checkbutton, ttk.Combobox)
for make in (*makers, ttk.Entry, ttk.Frame, ttk.Progressbar, ttk.Radiobutton, ttk.Scrollbar):
    widget = make(root)
    for name in widget.keys():
        if name != "variable":  # one that Tk makes up
            print(make.__name__, name, widget.cget(name))
for name in ("takefocus", "background", "menu", "cursor"):
    print("root", name, root.cget(name))
"""

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def soft_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test run itself stays dumpable: other tests look into /proc/self."""
    monkeypatch.setattr(dialog_process, "forbid_dumps", lambda: None)


@pytest.fixture
def resources(xvfb: VirtualDisplay) -> Iterator[Callable[[str], None]]:
    """Writes the display's resources, as every program on it can."""

    def write(text: str) -> None:
        put = ("-f", "RESOURCE_MANAGER", "8s", "-set", "RESOURCE_MANAGER", text)
        assert xvfb.run("xprop", "-root", *put).returncode == 0

    yield write
    xvfb.run("xprop", "-root", "-remove", "RESOURCE_MANAGER")


@pytest.mark.parametrize(
    "option",
    [
        "*TEntry.xScrollCommand: {}",
        "*TEntry.validate: all\n*TEntry.validateCommand: {}",
        "*Canvas.xScrollCommand: {}",
        "Inlay.takeFocus: {}",
        "*takeFocus: {}",
        "*class: Other\n*Other.takeFocus: {}",
    ],
)
async def test_a_command_in_the_displays_resources_is_not_run_beside_the_pin(
    xvfb: VirtualDisplay, resources: Callable[[str], None], tmp_path: Path, option: str
) -> None:
    ran = tmp_path / "ran"
    resources(option.format(f"exec touch {ran} ;#") + "\n")  # Tk wants the last line ended
    environment = UserEnvironment({name: xvfb.env[name] for name in ("DISPLAY", "XAUTHORITY")})
    window = await Windows().open(PROMPT, environment)
    assert isinstance(window, WindowProcess)
    person = Person(window, xvfb)
    consent = asyncio.create_task(window.consent())
    await person.sees("consent")
    await person.types("654321")
    for _ in range(8):  # once around: Tk asks each widget whether it takes the focus
        await person.presses("Tab")
    await person.presses("Escape")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 20)
    await window.close()
    assert not ran.exists()


async def test_every_option_that_is_left_open_is_tks_own(
    xvfb: VirtualDisplay, resources: Callable[[str], None]
) -> None:
    async def options(how: str) -> list[str]:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", EVERY_WIDGET, how],
            env={**os.environ, **xvfb.env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    usual = await options("as it is")
    assert await options("guarded") == usual
    resources(
        "*background: #123456\n*takeFocus: 0\n*show: x\n*style: Accent.TButton\n*class: Other\n*cursor: watch\n"
    )
    assert await options("as it is") != usual
    assert await options("guarded") == usual
