"""Windows read off the screen as a person reads them: long names, large letters, small screens, light and dark."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from agent.card_search import FoundCard, Sight
from agent.desktop import dialog_process
from agent.desktop.dialog_process import WindowProcess, Windows
from agent.ordered_card import what_is_seen
from agent.ports import CardChoice, UserEnvironment
from protocol.errors import InlayError
from tests.agent.desktop.window_pictures import CARD
from tests.support import window_text
from tests.support.browser_questions import Picture, take_picture
from tests.support.display import VirtualDisplay

READER = "Contactless and contact reader with a long name (54D53AE4) of its interface number two 01 00"
LABEL = "Visitor's card number 4711 of the administration of the lake district's waterways"

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def soft_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test run itself stays dumpable: other tests look into /proc/self."""
    monkeypatch.setattr(dialog_process, "forbid_dumps", lambda: None)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualDisplay]:
    """The screen of a small laptop."""
    with VirtualDisplay(tmp_path_factory.mktemp("small"), width=1024, height=600) as running:
        yield running


@asynccontextmanager
async def window(
    screen: VirtualDisplay, *, appearance: str = "light", scale: float = 1.0
) -> AsyncIterator[WindowProcess]:
    environment = UserEnvironment({name: screen.env[name] for name in ("DISPLAY", "XAUTHORITY")})
    shown = await Windows(appearance=appearance, scale=scale).open_cards(environment)
    assert isinstance(shown, WindowProcess)
    try:
        yield shown
    finally:
        await shown.close()


def on_screen(screen: VirtualDisplay) -> Picture:
    """The part of the one window that is on the screen."""
    (window,) = screen.windows(r" - Inlay$")
    shape = screen.xdotool("getwindowgeometry", "--shell", window)
    left, top, wide, high = (
        int(re.findall(rf"^{name}=(-?\d+)$", shape, re.MULTILINE)[0])
        for name in ("X", "Y", "WIDTH", "HEIGHT")
    )
    whole = take_picture(screen)
    right, bottom = min(left + wide, whole.width), min(top + high, whole.height)
    left, top = max(left, 0), max(top, 0)
    rows = (
        whole.pixels[3 * (y * whole.width + left) : 3 * (y * whole.width + right)] for y in range(top, bottom)
    )
    return Picture(right - left, bottom - top, b"".join(rows))


async def read(screen: VirtualDisplay, shown: WindowProcess, page: str) -> str:
    """What is to be read of the window on the screen once that page is there and drawn to the end."""
    async with asyncio.timeout(60):
        while shown.page != page:
            assert not shown.closed.is_set(), shown.failure
            await asyncio.sleep(0.02)
        before: Picture | None = None
        while (now := await asyncio.to_thread(on_screen, screen)) != before:
            before = now
            await asyncio.sleep(0.2)
    return await asyncio.to_thread(window_text.read, now)


@pytest.mark.parametrize(("appearance", "scale"), [("light", 1.0), ("dark", 2.0)])
async def test_what_is_to_be_done_now_is_seen_however_long_the_steps_are(
    small: VirtualDisplay, appearance: str, scale: float
) -> None:
    """A page higher than the screen is at the step that is under way; its buttons are on the screen."""
    other = FoundCard(READER, None, None, InlayError("card_other"))
    wanted = what_is_seen(Sight(None, (READER,), (other,)), LABEL)
    async with window(small, appearance=appearance, scale=scale) as shown:
        for number in range(6):
            await shown.show_progress(str(number), f"Step number {number} of this order", number, 9)
        await shown.show_progress("card", wanted, 6, 9)
        words = await read(small, shown, "progress")
    assert window_text.says(words, wanted), words
    assert window_text.says(words, "Cancel"), words


async def test_a_list_higher_than_the_window_begins_with_its_question(small: VirtualDisplay) -> None:
    rows = [CardChoice(str(number), READER, "PIV card, serial 1193427561") for number in range(8)]
    async with window(small) as shown:
        choosing = asyncio.create_task(
            shown.choose("Which card is it?", rows, f"Pick the card for “{LABEL}”.")
        )
        words = await read(small, shown, "choose")
        choosing.cancel()
    assert window_text.says(words, "Which card is it?"), words
    assert window_text.says(words, f"Pick the card for {LABEL}"), words
    assert window_text.says(words, READER), words


async def test_what_is_shown_once_is_seen_first(small: VirtualDisplay) -> None:
    """Large letters on a small screen: the PUK is seen before anything is scrolled, in full."""
    async with window(small, appearance="dark", scale=1.5) as shown:
        await shown.show_details(CARD, bytearray(b"47118255"))
        words = await read(small, shown, "details")
    assert window_text.says(words, "47118255"), words


async def test_a_number_is_read_as_that_number_alone(small: VirtualDisplay) -> None:
    """What the tests' own reading tells apart: two windows that differ in a digit, and what isn't there."""
    async with window(small) as shown:
        for number, other in (("417", "471"), ("888", "808")):
            await shown.show_number(number)
            words = await read(small, shown, "number")
            assert window_text.says(words, f"Type {number} in the page"), words
            assert not window_text.says(words, f"Type {other} in the page")
            assert not window_text.says(words, "The PIN is wrong")
            await shown.show_progress("keys", "Making the keys", 0, 2)
            assert window_text.says(await read(small, shown, "progress"), "0 of 2 steps done")
