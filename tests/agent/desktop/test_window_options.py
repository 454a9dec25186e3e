"""What others have written into the display's resources counts for nothing in Inlay's windows."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.desktop import dialog_process, window_options
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
import json, subprocess, sys, tkinter
from tkinter import ttk
from agent.desktop.window_options import open_window

MAKERS = (tkinter.Frame, tkinter.Label, tkinter.Canvas, tkinter.Listbox, ttk.Button, ttk.Checkbutton)

def options(root):
    found = [("root", name, root.cget(name)) for name in root.keys()]
    for make in (*MAKERS, ttk.Combobox, ttk.Entry, ttk.Frame, ttk.Progressbar, ttk.Radiobutton, ttk.Scrollbar):
        widget = make(root)
        found.append((make.__name__, widget.winfo_class()))
        for name in widget.keys():
            if name not in ("variable", "class"):  # made up by Tk; what is said of the class, not the class itself
                found.append((make.__name__, name, str(widget.cget(name))))
    root.destroy()
    return [str(line) for line in found]

def put(text):
    words = ["xprop", "-root", "-f", "RESOURCE_MANAGER", "8s", "-set", "RESOURCE_MANAGER", text]
    subprocess.run(words, check=True)

usual = options(tkinter.Tk(className="Inlay"))
wrong = []
for text in json.loads(sys.argv[1]):
    put(text)
    try:
        found = options(open_window("Inlay"))
    except tkinter.TclError as refused:
        wrong.append([text[:60], str(refused)])
        continue
    wrong += [[text[:60], line] for line in sorted(set(usual) ^ set(found))]
print(json.dumps(wrong))
"""
"""What differs from Tk's own, and what keeps the window from opening, for each text in the display's resources."""

NAMES = [name for names in window_options._HARMLESS.values() for name in names]
PATTERNS = ["*{}", "Inlay.{}", "*?.{}", "Inlay*{}", "*Label.{}", "*TEntry.{}"]
VALUES = ["{", "nosuch", "-1", "abc def", "\\\\", "0x1e00001", "1", "#123456", "watch"]
BROKEN = [
    "no colon",
    "*font",
    ":",
    "*: x",
    "!",
    "#",
    "*font: {\n*background",
    "\\",
    "*class: Other",
    "*class: {",
]

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


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_option_that_is_left_open_is_tks_own(
    xvfb: VirtualDisplay, resources: Callable[[str], None], pattern: str
) -> None:
    texts = [
        "".join(f"{pattern.format(name)}: {value}\n" for name in [*NAMES, *map(_class_of, NAMES)])
        for value in VALUES
    ]
    assert _wrong(xvfb, texts) == []


def test_resources_that_are_none_keep_no_window_from_opening(
    xvfb: VirtualDisplay, resources: Callable[[str], None]
) -> None:
    assert _wrong(xvfb, [text + "\n" for text in BROKEN] + BROKEN) == []


async def test_the_window_opens_whatever_the_displays_resources_say(
    xvfb: VirtualDisplay, resources: Callable[[str], None]
) -> None:
    resources("".join(f"*{name}: {{\n" for name in NAMES))
    environment = UserEnvironment({name: xvfb.env[name] for name in ("DISPLAY", "XAUTHORITY")})
    window = await Windows().open(PROMPT, environment)
    assert isinstance(window, WindowProcess)
    consent = asyncio.create_task(window.consent())
    person = Person(window, xvfb)
    await person.sees("consent")
    await person.presses("Escape")
    with pytest.raises(UserCancelled):
        await asyncio.wait_for(consent, 20)
    await window.close()


def _class_of(name: str) -> str:
    return name[0].upper() + name[1:]


def _wrong(xvfb: VirtualDisplay, texts: list[str]) -> object:
    done = xvfb.run(sys.executable, "-c", EVERY_WIDGET, json.dumps(texts), seconds=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
