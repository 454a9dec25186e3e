"""Pictures of the whole screen in the course of the use case, every part real.

``python -m tests.support.use_case_pictures docs/images``
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import isolation
from tests.support.browser import Portal, chromium
from tests.support.browser_questions import Question, answer, wait_for
from tests.support.display import VirtualDisplay
from tests.support.pcscd import PrivatePcscd
from tests.support.person import CONSENT_TITLE, DETAILS_TITLE, Person, cursor_in_field
from tests.support.portal_process import Account
from tests.support.stack import ANY_LEVEL, Desk, Site, password

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH, HEIGHT = 1720, 1024
PIN = "417530"


async def shoot(site: Site, desk: Desk, user: Account, display: VirtualDisplay, folder: Path) -> None:
    """Get a card, and take a picture at each turn."""

    def picture(name: str) -> None:
        display.screenshot(folder / f"use-case-{name}.png")

    address = Portal(int(site.portal.portal_id.partition(":")[2]))
    # that switch keeps a warning about the other switches off the pictures
    browser = chromium(display, desk.home, portal=address, ca_file=site.ca.ca_file, extra=["--test-type"])
    async with browser as context:
        await _use_case(Person(display, context.pages[0]), address, user, picture)


async def _use_case(person: Person, address: Portal, user: Account, picture: Callable[[str], None]) -> None:
    await person.log_in(address.origin, user)
    await person.begin()
    picture("1-open-inlay")
    await person.open_inlay(question=False)
    await wait_for(person.display, Question.OPEN_LINK)
    picture("2-browser-asks")
    await answer(person.display, Question.OPEN_LINK, yes=True)
    await person.window(CONSENT_TITLE)
    await person.until(lambda: cursor_in_field(person.display), "the cursor in the window's field")
    await person.type(PIN, "Tab")
    await person.type(PIN)
    picture("3-consent-and-pin")
    await person.press("Return")
    number = await person.number()
    await person.page.locator(".digits").wait_for(state="visible")
    await _painted(person)
    picture("4-number")
    await person.type_number(number)
    await person.window(DETAILS_TITLE)
    await person.see_step("Details")
    picture("5-card-ready")
    await person.close_window(DETAILS_TITLE)
    await person.next()
    await person.page.wait_for_url("**/cards")
    await person.page.get_by_role("heading", name="Cards", exact=True).wait_for(state="visible")
    # what the page has by now is on the screen only when it was painted
    await person.page.evaluate(
        "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    picture("6-cards")


async def _painted(person: Person) -> None:
    """What the page has by now is on the screen only when it was painted."""
    await person.page.evaluate(
        "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def main() -> int:
    """Run the command."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    isolation.enter()
    with ExitStack() as ends:
        work = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="inlay-use-case-")))
        for name in ("pcscd", "screen", "portal", "desk"):
            (work / name).mkdir()
        ends.enter_context(PrivatePcscd(work / "pcscd"))
        display = ends.enter_context(VirtualDisplay(work / "screen", width=WIDTH, height=HEIGHT))
        site = Site(work / "portal", port=8443, host="portal.test")
        user = Account("user@example.org", "Example user", password())
        site.prepare(user, options=ANY_LEVEL)
        ends.callback(site.portal.stop)
        site.portal.start()
        desk = Desk(work / "desk", display.env)
        ends.callback(desk.stop)
        desk.start_keystore().start().trust(site)
        asyncio.run(shoot(site, desk, user, display, folder))
        pictures = [str(path) for path in sorted(folder.glob("use-case-*.png"))]
        display.run(
            "mogrify", "-strip", "-resize", "1200x", "+dither", "-colors", "96", *pictures, seconds=120
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
