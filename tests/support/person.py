"""A person at the screen: looks at pages and windows, moves the mouse, types.

Pages are looked at through the browser's debugging port; everything that is *done* is done with the
screen's own mouse and keyboard, so that the browser, the window manager and the agent's window get
what they get from a person's hands.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from typing import TYPE_CHECKING, TypeVar

from playwright.async_api import Error

from tests.support import window_text
from tests.support.browser_questions import Question, answer, take_picture
from tests.support.display import LOOK_SECONDS
from tests.support.processes import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Page

    from tests.support.browser_questions import Picture
    from tests.support.display import VirtualDisplay
    from tests.support.portal_process import Account

CONSENT_TITLE = r"^Create a virtual smart card - Inlay$"
NUMBER_TITLE = r"^[0-9]{3} - type this number in the page - Inlay$"
DETAILS_TITLE = r"^Your card is ready - Inlay$"
ENCODED_TITLE = r"^The card is ready - Inlay$"
CODE_TITLE = r"^Enter a code - Inlay$"
ANY_WINDOW = r" - Inlay$"
BROWSER_TITLE = r" - Chromium$"

ACCENTS = ("005fb8", "57c8ff")  # of the theme: light, dark
FIELD_PIXELS = 200
GOES_ON = ("0560b6", "57c8ff")
"""Of the button that goes on, once it can be pressed: light, dark."""
TEXTS = bytes.fromhex("1b1b1b")
"""Of the texts on a page of the window, light: a page without any is still to be drawn."""
BUTTON_INSIDE = 30
"""Pixels from the window's lower right corner to the inside of that button."""

PAGE_MS = 15_000
SEARCHES = 10  # times that a page is shown until it finds the agent
WINDOW_SECONDS = 20.0
KEY_MS = "8"

T = TypeVar("T")

_PLACE = """async element => {
    element.scrollIntoView({block: 'center', behavior: 'instant'});
    const place = () => {
        const box = element.getBoundingClientRect();
        return [
            screenX + (outerWidth - innerWidth) / 2 + box.x + box.width / 2,
            screenY + outerHeight - innerHeight + box.y + box.height / 2,
        ];
    };
    const shown = () => new Promise((done) => {
        requestAnimationFrame(() => requestAnimationFrame(done));
        setTimeout(done, 300);
    });
    let before, now = place();
    do {
        before = now;
        await shown();
        now = place();
    } while (String(before) !== String(now));
    return now;
}"""
"""Where an element's middle is on the screen, once it has been drawn there: a click goes to what is drawn."""
_PAGES = 5
"""Pages that may take each other's place while an element is looked for."""


def cursor_in_field(display: VirtualDisplay, window: str = "root") -> bool:
    """Whether a field of Inlay's window has the cursor, by the coloured line below it.

    A window is in front some milliseconds before that: what is typed then goes nowhere. Looking at the one window
    takes a fraction of what looking at the whole screen takes.
    """
    pixels = take_picture(display, window).pixels
    return any(bytes.fromhex(colour) * FIELD_PIXELS in pixels for colour in ACCENTS)


def goes_on(picture: Picture) -> bool:
    """Whether the button that goes on can be pressed, on a picture of Inlay's window without the mouse on it."""
    return picture.at(*_inside_button(picture)).hex() in GOES_ON


def _inside_button(picture: Picture) -> tuple[int, int]:
    return picture.width - BUTTON_INSIDE, picture.height - BUTTON_INSIDE


def _picture(display: VirtualDisplay, window: str) -> Picture | None:
    """Of a window, if there is one and it doesn't go in that moment."""
    try:
        return take_picture(display, window) if window else None
    except subprocess.CalledProcessError:
        return None


class Person:
    """Who sits at ``display`` with ``page`` in the browser.

    Attributes:
        display: the screen.
        page: the browser's tab.
    """

    def __init__(self, display: VirtualDisplay, page: Page) -> None:
        self.display = display
        self.page = page

    # --- the page

    async def log_in(self, origin: str, account: Account) -> None:
        """Open the portal, type address and password, and arrive at the start page."""
        await self.page.goto(origin)
        await self.click("#email")
        await self.type(account.email)
        await self.click("#password")
        await self.type(account.password, "Return")
        await self.page.wait_for_url("**/start", timeout=PAGE_MS)

    async def begin(self) -> None:
        """*Get virtual smart card*, *Next*: the page with *Open Inlay*, ready to be clicked."""
        await self.click("button:has-text('Get virtual smart card')")
        await self.page.wait_for_url("**/processes/*", timeout=PAGE_MS)
        await self.next()
        await self.page.wait_for_selector("#order[data-found]", timeout=PAGE_MS)

    async def next(self) -> None:
        """*Next*, and see another page."""
        await self.click("button:has-text('Next')")

    async def found_directly(self) -> bool:
        """Whether the page found the agent; where a busy machine took longer than the page looks, it is shown again."""
        for _ in range(SEARCHES):
            if await self.path_found() == "loopback":
                return True
            await self.page.reload()
            await self.page.wait_for_selector("#order[data-found]", timeout=PAGE_MS)
        return False

    async def path_found(self) -> str:
        """What the page says it found: ``loopback`` or ``link``."""
        return await self.page.get_attribute("#order", "data-found") or ""

    async def path_taken(self) -> str:
        """What the page says it did after the click: ``loopback`` or ``link``; empty before."""
        return await self.page.get_attribute("#order", "data-path") or ""

    async def open_inlay(self, *, question: bool) -> None:
        """Click *Open Inlay*, and answer the browser's own question with yes where it asks one."""
        await self.click("#open")
        if question:
            await answer(self.display, Question.OPEN_LINK, yes=True)

    async def type_number(self, number: str) -> None:
        """Type the number into the page."""
        await self.page.wait_for_selector("#number-field", state="visible", timeout=PAGE_MS)
        await self.click("#number-field")
        await self.type(number, "Return")

    async def see(self, text: str) -> None:
        """Wait until the page shows a text."""
        await self.page.get_by_text(text).first.wait_for(state="visible", timeout=PAGE_MS)

    async def typed_code(self) -> str:
        """The code for typing, from the page's last way."""
        await self.page.locator("#last-way").evaluate("details => { details.open = true; }")
        return (await self.page.inner_text("#typed-code")).strip()

    async def see_step(self, title: str) -> None:
        """Wait until the page is at the step with that title."""
        step = self.page.locator("[aria-current='step']", has_text=title)
        await step.wait_for(state="visible", timeout=PAGE_MS)

    async def cancel_in_page(self) -> None:
        """*Cancel* and *Yes, cancel* in the page."""
        await self.click("summary:has-text('Cancel')")
        await self.click("button:has-text('Yes, cancel')")

    async def click(self, selector: str) -> None:
        """A real click on the middle of the element, as soon as it can be seen."""
        x, y = await self._place(selector)
        aside = not await self._browser_active()
        await self._act("mousemove", str(round(x)), str(round(y)), "click", "1")
        if aside:
            await self._until(self._browser_active, "the browser in front after a click into it")

    async def type(self, text: str, *then: str) -> None:
        """Type on the keyboard, wherever the cursor is, then press the keys named."""
        await self._act("type", "--clearmodifiers", "--delay", KEY_MS, "--", text)
        if then:
            await self.press(*then)

    async def press(self, *keys: str) -> None:
        """Press keys, by their X names."""
        await self._act("key", "--clearmodifiers", "--delay", KEY_MS, *keys)

    # --- Inlay's window

    async def window(self, title: str, *, seconds: float = WINDOW_SECONDS) -> str:
        """The id of the window with that title, as soon as it is on the screen and has the keyboard.

        Raises:
            NotReadyError: there is none in time, or it stays without the keyboard.
        """
        found = await self._until(
            lambda: self._in_front(title), f"a window {title!r} in front", seconds=seconds
        )
        assert found is not None
        return found

    async def field(self, title: str) -> None:
        """Wait until a field of the window with that title has the cursor."""
        window = await self.window(title)
        await self.until(lambda: cursor_in_field(self.display, window), "the cursor in a field of the window")

    async def go_on(self, title: str) -> str:
        """Press the window's button that goes on, as soon as it can be pressed; the window's id."""
        window, place = await self.window(title), (0, 0)

        def ready() -> bool:
            nonlocal place
            picture = take_picture(self.display, window)
            place = _inside_button(picture)
            return goes_on(picture)

        await self.until(ready, "the button that goes on")
        await self._act("mousemove", "--window", window, *map(str, place), "click", "1")
        return window

    async def mouse_aside(self) -> None:
        """Take the mouse off Inlay's window: a button under it has another colour."""
        await self._act("mousemove", "0", "0")

    async def list_of_cards(self, title: str) -> str:
        """The window with that title, once its list can be gone through by the keyboard; nothing in it is chosen."""
        window = await self.window(title)
        await self.mouse_aside()
        await self.sees(window, lambda seen: TEXTS in seen.pixels and not goes_on(seen), "a list of cards")
        return window

    async def sees(self, window: str, shown: Callable[[Picture], bool], what: str) -> Picture:
        """Inlay's window, as soon as it shows something and has been drawn to the end: two looks are the same."""
        last: Picture | None = None

        def drawn() -> bool:
            nonlocal last
            before, last = last, take_picture(self.display, window)
            return last == before and shown(last)

        await self.until(drawn, what)
        assert last is not None
        return last

    async def reads(self, *texts: str, title: str = ANY_WINDOW) -> str:
        """Read Inlay's window until all these texts stand in it; all that was read then.

        Line breaks and signs don't count. The window needn't have the keyboard. A picture is read once it has been
        drawn to the end: two looks are the same.

        Raises:
            NotReadyError: one of them isn't there in time; it says what is.
        """
        window, last, words = "", None, "no window"

        def read() -> bool:
            nonlocal window, last, words
            if not window:
                window = next(iter(self.display.windows(title)), "")
            before, last = last, _picture(self.display, window)
            if last is None:
                window = ""
            elif last == before:
                words = window_text.read(last)
            return all(window_text.says(words, text) for text in texts)

        try:
            await self.until(read, "a text in Inlay's window")
        except NotReadyError as error:
            raise NotReadyError(f"{texts} in Inlay's window", error.seconds, words) from error
        return words

    async def enter_pin(self, pin: str, again: str | None = None) -> None:
        """Type the new PIN twice into the consent window, and agree by Enter."""
        await self.field(CONSENT_TITLE)
        await self.type(pin, "Tab")
        await self.type(pin if again is None else again, "Return")

    async def number(self) -> str:
        """The number, read from the window's title; the window is moved aside, off the page.

        The title comes first: only when the window is raised it has taken the keyboard, and takes it no second time.
        """
        window = await self.window(NUMBER_TITLE)
        await self.until(lambda: self.display.stays_above(window), "the number above all windows")
        title = await asyncio.to_thread(self.display.xdotool, "getwindowname", window)
        width, _ = (await asyncio.to_thread(self.display.xdotool, "getdisplaygeometry")).split()
        shape = await asyncio.to_thread(self.display.xdotool, "getwindowgeometry", "--shell", window)
        across = re.search(r"^WIDTH=(\d+)$", shape, re.MULTILINE)
        assert across is not None, shape
        await self._act("windowmove", window, str(int(width) - int(across[1]) - 10), "60")
        return title[:3]

    async def enter_code(self, code: str) -> None:
        """Type a code into the window that asks for one."""
        await self.field(CODE_TITLE)
        await self.type(code, "Return")

    async def close_window(self, title: str) -> None:
        """Close a window by its Escape key, and see it go."""
        window = await self.window(title)
        await self.press("Escape")
        await self.gone(window)

    async def gone(self, window: str, *, seconds: float = WINDOW_SECONDS) -> None:
        """Wait until a window is no longer there."""
        await self._until(lambda: self._gone(window), f"window {window} closed", seconds=seconds)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something beyond the screen is so."""

        async def met() -> bool:
            return await asyncio.to_thread(condition)

        await self._until(met, what)

    async def _gone(self, window: str) -> bool:
        return window not in await asyncio.to_thread(self.display.windows, ANY_WINDOW)

    async def _in_front(self, title: str) -> str | None:
        window, name = await asyncio.to_thread(self.display.active_window)
        return window if window and re.search(title, name) else None

    async def _place(self, selector: str) -> tuple[float, float]:
        """Where an element's middle is; on the page that came while it was looked for."""
        for pages_left in reversed(range(_PAGES)):
            element = await self.page.wait_for_selector(selector, state="visible", timeout=PAGE_MS)
            assert element is not None
            await self.page.bring_to_front()
            try:
                x, y = await element.evaluate(_PLACE)
            except Error:
                if not pages_left:
                    raise
            else:
                return x, y
        raise AssertionError

    async def _browser_active(self) -> bool:
        return await self._in_front(BROWSER_TITLE) is not None

    async def _until(
        self, condition: Callable[[], Awaitable[T]], what: str, *, seconds: float = WINDOW_SECONDS
    ) -> T:
        """What ``condition`` gives, as soon as it gives something true."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not (found := await condition()):
            if loop.time() > deadline:
                tree = await asyncio.to_thread(self.display.tree)
                raise NotReadyError(what, seconds, tree)
            await asyncio.sleep(LOOK_SECONDS)
        return found

    async def _act(self, *arguments: str) -> None:
        await asyncio.to_thread(self.display.xdotool, *arguments)
