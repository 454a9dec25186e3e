"""Consent without anything to type waits whenever its window comes to the front, however that came about."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from tests.support.display import VirtualDisplay

SCENE = """
import socket, sys, tkinter
from agent.desktop import page_messages, window_pages
from agent.desktop.dialogs import Dialogs
from agent.desktop.window_theme import Theme
from agent.pin_rules import PinRules
from agent.ports import KnownSecret, OrderPrompt
window_pages.CONSENT_DELAY_MS = 3_600_000  # what is let through here is let through by no clock
root = tkinter.Tk(className="Inlay")
agent, window = socket.socketpair()
dialogs = Dialogs(root, Theme(root, dark=False, scale=1.0), window, None)
known = KnownSecret("PIN", 6, 8) if sys.argv[1] == "pin" else None
prompt = OrderPrompt("Portal", "https://portal.example", "account", "Delete", ("It goes.",), None, known=known)
dialogs._show(page_messages.consent_message(prompt))
agree = root.nametowidget(dialogs._shell.footer.winfo_children()[-1])
entries = [entry for field in dialogs._consent._fields for entry in field.entries]

def look(when):
    root.update()
    print(when, "waits" if agree.instate(["disabled"]) else "agrees")

look("shown")
for entry in entries:
    entry.insert(0, "654321")
if not entries:
    dialogs._consent._allow()
look("after a while")
dialogs._show({"show": "raise"})
look("raised")
if not entries:
    dialogs._consent._allow()
look("after a while")
other = tkinter.Toplevel(root)
other.focus_force()
other.wait_visibility()
root.update()
root.focus_force()
while root.focus_get() is other:
    root.update()
look("looked at again")
dialogs._show({"show": "error", "code": "x", "happened": "x", "why": "x", "next_step": "x"})
dialogs._show({"show": "raise"})
print("another page")
"""

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    ("asks", "raised", "seen"), [("nothing", "waits", "waits"), ("pin", "agrees", "agrees")]
)
async def test_what_was_pressed_for_another_window_agrees_to_nothing(
    xvfb: VirtualDisplay, asks: str, raised: str, seen: str
) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", SCENE, asks],
        env={**os.environ, **xvfb.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "shown waits",
        "after a while agrees",
        f"raised {raised}",
        "after a while agrees",
        f"looked at again {seen}",
        "another page",
    ]
