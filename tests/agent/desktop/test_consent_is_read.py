"""Consent that needs no typing can be given once all of its page has been on the screen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from agent.desktop import dialog_process
from agent.desktop.dialog_process import WindowProcess, Windows
from agent.desktop.window_pages import READ_FIRST
from agent.ports import OrderPrompt, UserEnvironment
from tests.agent.desktop.test_order_window import Person
from tests.agent.desktop.test_windows_are_read import on_screen, read
from tests.support import window_text
from tests.support.display import VirtualDisplay
from tests.support.processes import wait_until

LAST = "The old certificates are revoked."
LONG = OrderPrompt(
    portal_name="Example University",
    origin="https://portal.example.edu",
    account="maria.lopez@example.edu",
    title="Renew a virtual smart card",
    consequences=(
        "The card gets new keys for authentication and signature.",
        "Its encryption key stays with its certificate.",
        "The card is what it was until all of it has succeeded.",
        "Programs that use the card have to be started again.",
        LAST,
    ),
    pin_policy=None,
    card="Virtual smart card (serial 1193427561)",
    confirm_label="Renew",
)
SHORT = replace(LONG, consequences=(LAST,))

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def soft_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test run itself stays dumpable: other tests look into /proc/self."""
    monkeypatch.setattr(dialog_process, "forbid_dumps", lambda: None)


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualDisplay]:
    """A screen on which letters of twice the size leave no room for a whole page."""
    with VirtualDisplay(tmp_path_factory.mktemp("low"), width=1280, height=800) as running:
        yield running


@asynccontextmanager
async def asked(
    screen: VirtualDisplay, prompt: OrderPrompt, *, appearance: str = "light", scale: float = 2.0
) -> AsyncIterator[tuple[Person, asyncio.Task[object]]]:
    environment = UserEnvironment({name: screen.env[name] for name in ("DISPLAY", "XAUTHORITY")})
    window = await Windows(appearance=appearance, scale=scale).open(prompt, environment)
    assert isinstance(window, WindowProcess)
    person = Person(window, screen)
    consent: asyncio.Task[object] = asyncio.create_task(window.consent())
    try:
        await person.sees("consent")
        yield person, consent
    finally:
        consent.cancel()
        await window.close()


async def says(screen: VirtualDisplay, text: str, *, there: bool = True) -> None:
    """Wait until the window says something, or does no more."""

    def said() -> bool:
        return window_text.says(window_text.read(on_screen(screen)), text)

    await asyncio.to_thread(wait_until, lambda: said() is there, text, seconds=30)


async def clicks_renew(screen: VirtualDisplay, *, scale: int = 2) -> None:
    """Click where the last button of the window is."""

    def click() -> None:
        (window,) = screen.windows(r" - Inlay$")
        size = dict(
            line.split("=") for line in screen.xdotool("getwindowgeometry", "--shell", window).splitlines()
        )
        place = str(int(size["WIDTH"]) - 50 * scale), str(int(size["HEIGHT"]) - 30 * scale)
        screen.xdotool("mousemove", "--window", window, *place, "click", "1")

    await asyncio.to_thread(click)


@pytest.mark.parametrize("appearance", ["light", "dark"])
async def test_by_the_keyboard_alone_what_does_not_fit_is_read_before_it_is_agreed_to(
    low: VirtualDisplay, appearance: str
) -> None:
    async with asked(low, LONG, appearance=appearance) as (person, consent):
        await says(low, READ_FIRST)
        while window_text.says(await read(low, person.window, "consent"), READ_FIRST):
            await person.presses("Next")
        assert window_text.says(await read(low, person.window, "consent"), LAST)
        await person.presses("Tab", "Return")
        await asyncio.wait_for(consent, 20)


async def test_the_mouse_reads_to_the_end_too(low: VirtualDisplay) -> None:
    async with asked(low, LONG) as (_, consent):
        await says(low, READ_FIRST)
        await clicks_renew(low)
        await says(low, READ_FIRST)  # and nothing was agreed to
        assert not consent.done()
        await asyncio.to_thread(low.xdotool, "mousemove", "640", "400")
        await asyncio.to_thread(low.xdotool, "click", "--repeat", "30", "--delay", "20", "5")
        await says(low, READ_FIRST, there=False)
        await clicks_renew(low)
        await asyncio.wait_for(consent, 20)


async def test_what_fits_waits_for_nobody_to_scroll(low: VirtualDisplay) -> None:
    async with asked(low, SHORT, scale=1.0) as (person, consent):
        assert not window_text.says(await read(low, person.window, "consent"), READ_FIRST)
        while person.window.page == "consent":  # every consent waits for a moment
            await clicks_renew(low, scale=1)
        await asyncio.wait_for(consent, 20)
