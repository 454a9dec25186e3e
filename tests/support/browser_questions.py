"""Chromium's own questions, found on a screenshot and answered by the mouse.

They are windows of the browser and no part of a page, so no page (and no debugging protocol) can
see or answer them: what is on the screen is all there is. Two are known, both measured with
Chromium 156:

- *Open …?* after a click on a link of a registered scheme: a white panel with a filled button
  (Cancel, the default) and a pale one (Open …) to its right;
- *Access other apps and services on this device*, when a public page connects to loopback: a
  white panel with two pale buttons (Block, Allow).

Buttons are found as areas of exactly the theme's colours on white, at least 25 pixels high.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.processes import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.display import VirtualDisplay

_FILLED = ("0b57d0", "0d50bb")  # the second: focused
_PALE = ("d3e3fd",)
_WHITE = bytes.fromhex("ffffff")

_MIN_WIDTH, _MAX_WIDTH = 40, 320
_MIN_HEIGHT, _MAX_HEIGHT = 25, 50
_TEXT_HEIGHT = 24  # text interrupts a button's colour for fewer rows than this
_TOP, _BOTTOM = 90, 420  # between toolbar and the lowest place of such a panel
_MARGIN = 10  # white around a button, its focus ring included
_ROW_STEP = 2
_OUT_OF_THE_WAY = (10_000, 10_000)  # the server stops the mouse at the corner
_LOOK_AGAIN_SECONDS = 0.15
_PERSON_SECONDS = 0.6  # Chromium takes no answer in the first half second: nobody reads that fast


class Question(enum.Enum):
    """What the browser asks."""

    OPEN_LINK = "Open …?"
    LOOPBACK = "Access other apps and services on this device"


@dataclass(frozen=True)
class Button:
    """An area on the screen, in pixels.

    Attributes:
        filled: the default button's look.
    """

    left: int
    top: int
    right: int
    bottom: int
    filled: bool

    @property
    def middle(self) -> tuple[int, int]:
        """Where to click."""
        return (self.left + self.right) // 2, (self.top + self.bottom) // 2


@dataclass(frozen=True)
class Picture:
    """A screenshot: ``pixels`` holds three bytes each, row by row."""

    width: int
    height: int
    pixels: bytes

    def at(self, x: int, y: int) -> bytes:
        """The colour of one pixel."""
        start = 3 * (y * self.width + x)
        return self.pixels[start : start + 3]

    def runs(self, y: int, colour: bytes) -> Iterator[tuple[int, int]]:
        """Stretches of ``colour`` in row ``y`` that may belong to a button: left, right (exclusive)."""
        row = self.pixels[3 * y * self.width : 3 * (y + 1) * self.width]
        for match in re.finditer(b"(?:%b){%d,%d}" % (re.escape(colour), _MIN_WIDTH, _MAX_WIDTH), row):
            if match.start() % 3 == 0:
                yield match.start() // 3, match.end() // 3


def take_picture(display: VirtualDisplay, window: str = "root") -> Picture:
    """The whole screen, or one window, as it is now."""
    command = ["import", "-window", window, "-depth", "8", "ppm:-"]
    done = subprocess.run(command, env=display.env, capture_output=True, check=True, timeout=30)
    _, size, _, pixels = done.stdout.split(b"\n", 3)
    width, height = map(int, size.split())
    return Picture(width, height, pixels)


def find_buttons(picture: Picture) -> list[Button]:
    """The browser's own buttons, from left to right."""
    found: list[Button] = []
    for colour in (*_FILLED, *_PALE):
        areas: list[Button] = []
        for y in range(_TOP, min(_BOTTOM, picture.height), _ROW_STEP):
            for left, right in picture.runs(y, bytes.fromhex(colour)):
                _add(areas, Button(left, y, right, y, filled=colour in _FILLED))
        found += [area for area in areas if _is_button(picture, area)]
    return sorted(found, key=lambda button: button.left)


def _add(areas: list[Button], piece: Button) -> None:
    """Join ``piece`` to the area that it continues downwards, or begin an area with it."""
    for number, area in enumerate(areas):
        near = piece.top - area.bottom < _TEXT_HEIGHT
        if near and piece.left < area.right and area.left < piece.right:
            left, right = min(area.left, piece.left), max(area.right, piece.right)
            areas[number] = Button(left, area.top, right, piece.bottom, area.filled)
            return
    areas.append(piece)


def _is_button(picture: Picture, area: Button) -> bool:
    """Whether it has a button's height and lies on white."""
    middle, _ = area.middle
    around = [(middle, max(area.top - _MARGIN, 0)), (middle, min(area.bottom + _MARGIN, picture.height - 1))]
    height = area.bottom - area.top
    return _MIN_HEIGHT <= height <= _MAX_HEIGHT and all(picture.at(x, y) == _WHITE for x, y in around)


def asked(buttons: list[Button]) -> tuple[Question, Button, Button] | None:
    """Which question these buttons belong to, with its *no* and its *yes*; ``None`` for none."""
    for no, yes in itertools.pairwise(buttons):
        if yes.filled or abs(no.middle[1] - yes.middle[1]) > _MARGIN or yes.left - no.right > 60:
            continue
        return (Question.OPEN_LINK if no.filled else Question.LOOPBACK), no, yes
    return None


async def look(display: VirtualDisplay) -> tuple[Question, Button, Button] | None:
    """Which question is on the screen now."""
    return asked(find_buttons(await asyncio.to_thread(take_picture, display)))


async def wait_for(
    display: VirtualDisplay, question: Question, *, seconds: float = 15
) -> tuple[Button, Button]:
    """The question's *no* and *yes* buttons, as soon as it is asked.

    Raises:
        NotReadyError: it isn't asked in time.
    """
    deadline = time.monotonic() + seconds
    await _put_mouse(display, *_OUT_OF_THE_WAY)  # a button under the mouse has another colour
    while True:
        seen = await look(display)
        if seen is not None and seen[0] is question:
            return seen[1:]
        if time.monotonic() > deadline:
            picture = await asyncio.to_thread(display.screenshot, display.folder / "not-asked.png")
            raise NotReadyError(f"the question {question.value!r}", seconds, f"seen: {seen}, {picture}")
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def answer(display: VirtualDisplay, question: Question, *, yes: bool, seconds: float = 15) -> None:
    """Wait for the question, click an answer, and see that it is gone.

    Raises:
        NotReadyError: it isn't asked, or doesn't go away, in time.
    """
    deadline = time.monotonic() + seconds
    buttons = await wait_for(display, question, seconds=seconds)
    while True:
        await asyncio.sleep(_PERSON_SECONDS)
        await _put_mouse(display, *buttons[yes].middle, "click", "1")
        await _put_mouse(display, *_OUT_OF_THE_WAY)
        if await _gone(display, question):
            return
        if time.monotonic() > deadline:
            raise NotReadyError(f"the question {question.value!r} answered", seconds)


async def _gone(display: VirtualDisplay, question: Question) -> bool:
    """Whether the question isn't seen three times on end: a click's own effect hides it for a moment."""
    for _ in range(3):
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        seen = await look(display)
        if seen is not None and seen[0] is question:
            return False
    return True


async def _put_mouse(display: VirtualDisplay, x: int, y: int, *then: str) -> None:
    await asyncio.to_thread(display.xdotool, "mousemove", str(x), str(y), *then)
