"""What may be the matter when nothing happens after a click on *Open Inlay*: one list, in order of likelihood.

A page can't tell these apart: a browser says nothing of a link that led nowhere, of a question that was closed,
or of a program that did not start. So it names them all, each with its next step, and goes on waiting: silence
is not a failure.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Possibility(NamedTuple):
    """One thing that may be the matter.

    Attributes:
        name: its name in the page.
        what: what may be the matter, for a person.
        next_step: what to do if it is.
    """

    name: str
    what: str
    next_step: str


POSSIBILITIES: Final = (
    Possibility(
        "question_dismissed",
        "Your browser asked whether it may open Inlay, and the question was closed or went unseen.",
        "Click Open Inlay again and choose Open in the browser's question.",
    ),
    Possibility(
        "window_behind",
        "Inlay's window is open, but behind another window or on another screen.",
        "Look for Inlay in the task bar, or click Open Inlay again: the window then comes to the front.",
    ),
    Possibility(
        "not_installed",
        "Inlay is not installed on this computer, or not for your user.",
        "Install it, or ask your support to do so; then click Open Inlay again.",
    ),
    Possibility(
        "not_started",
        "Inlay could not start.",
        "Run inlay agent in a terminal: it says what is missing.",
    ),
    Possibility(
        "browser_confined",
        "Your browser may not start other programs (a browser from Snap or Flatpak, for example).",
        "Choose Inlay: enter a code in your programs, and type the code shown below.",
    ),
)
