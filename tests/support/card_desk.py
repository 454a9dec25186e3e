"""A desk at which operator, approver and holder of a card sit one after the other, the card in the desk's reader.

Every part is real: Chromium, portal, agent, its window, pcscd with vpcd. The card is our own engine's, as one comes
from its maker.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.support.browser import Policies, Portal, chromium
from tests.support.browser_questions import take_picture
from tests.support.person import NUMBER_TITLE, Person, cursor_in_field
from tests.support.portal_process import Account
from tests.support.processes import wait_until
from tests.support.stack import Desk, Site, password
from tests.support.virtual_cards import PUK, InReader, factory_card

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agent.vsc.card import VirtualCard
    from tests.support.display import VirtualDisplay
    from tests.support.pcscd import PrivatePcscd

FACTORY_PUK: Final = b"12345678"
"""What a portal that wasn't told otherwise takes for a blank card's."""
WARNING: Final = bytes.fromhex("b3261e")
"""The colour of a warning's letters in Inlay's window."""
SCRIPT: Final = "--script=CardsScriptOptions"
WANTED: Final = {"KeyAlgorithm": "P-256", "PUKDelivery": "print"}
FIRST: Final = {"KeyAlgorithm": "RSA-2048", "PINDelivery": "print", "PUKDelivery": "nopuk"}

RUNNING: Final[list[CardDesk]] = []
"""The desk that there is now, for the report of a test that fails."""


@dataclass(frozen=True)
class People:
    """Who has to do with a card.

    Attributes:
        olga: an operator.
        paul: an approver.
        ada: who gets the card.
    """

    olga: Account
    paul: Account
    ada: Account

    @classmethod
    def new(cls) -> Self:
        """People whom the portal doesn't know yet."""

        def account(name: str, *roles: str) -> Account:
            address = f"{name.lower()}-{secrets.token_hex(3)}@example.org"
            return Account(address, f"{name} Example", password(), roles)

        return cls(account("Olga", "operator"), account("Paul", "approver"), account("Ada"))


@dataclass
class CardDesk:
    """The desk, and who sits there.

    Attributes:
        person: whoever sits there now.
        card: the card in the reader.
        reader: its PC/SC name.
        pin: the card's PIN, as its holder knows it.
    """

    site: Site
    desk: Desk
    people: People
    person: Person
    card: VirtualCard
    reader: str
    pin: str = ""
    _who: Account | None = None

    @property
    def origin(self) -> str:
        """The portal."""
        return self.site.portal.origin

    async def sits_down(self, who: Account) -> Person:
        """Somebody logs in, after whoever sat there has logged out."""
        if self._who is who:
            return self.person
        if self._who is not None:
            await self.person.click("button:has-text('Log out')")
            await self.person.page.wait_for_url("**/login*")
        await self.person.log_in(self.origin, who)
        self._who = who
        return self.person

    async def object_page(self, kind: str, text: str) -> None:
        """An operator's search for one object, to its page."""
        page = self.person.page
        await page.goto(f"{self.origin}/operator/search?kind={kind}")
        await self.person.click("#text")
        await self.person.type(text, "Return")
        await page.wait_for_url(re.compile(r"[?&]text=[^&]"))
        await self.person.click("table.hits tbody th a")
        await page.wait_for_url(f"**/operator/objects/{kind}/*")

    async def start(self, process: str, *fields: str) -> None:
        """A process from the page that offers it, the fields of its first step filled in, to its next page."""
        await self.person.click(f"button:text-is('{process}')")
        await self.person.page.wait_for_url("**/processes/*")
        entries = await self.person.page.locator("#step-form input[type=text]").all()
        assert len(entries) == len(fields)
        for entry, text in zip(entries, fields, strict=True):
            await (
                entry.select_text()
            )  # by the keyboard Ctrl may still count for the first letter on a busy machine
            await self.person.type(text)
        await self.person.next()

    async def open_inlay(self) -> None:
        """From a process's page to Inlay's window."""
        await self.person.page.wait_for_selector("#order[data-found]")
        await self.person.open_inlay(question=False)

    async def agree(self, title: str, done: str) -> None:
        """Agree in Inlay's window, and type its number into the page where it shows one.

        It ends as soon as a field of the window has the cursor, or its last page is there.
        """
        window = await self.person.go_on(title)
        display, typed = self.person.display, False

        def next_page() -> str:
            _, shown = display.active_window()
            if re.search(NUMBER_TITLE, shown) and not typed:
                return NUMBER_TITLE
            return done if re.search(done, shown) or cursor_in_field(display, window) else ""

        while await self._until(next_page) == NUMBER_TITLE:
            await self.person.type_number(await self.person.number())
            typed = True

    async def warned(self, title: str) -> bool:
        """Whether there is a warning in Inlay's window."""
        window = await self.person.window(title)
        picture = await asyncio.to_thread(take_picture, self.person.display, window)
        return WARNING in picture.pixels

    async def finish(self, title: str, step: str = "Details") -> None:
        """Close Inlay's last page; the process's page has followed by itself."""
        await self.person.close_window(title)
        await self.person.see_step(step)

    async def end(self, title: str) -> None:
        """Close Inlay's last page, and the process."""
        await self.finish(title)
        await self.person.next()
        await self.person.see("Finished.")

    async def _until(self, page: Callable[[], str]) -> str:
        """What comes next in Inlay's window."""
        found = ""

        def there() -> bool:
            nonlocal found
            found = page()
            return bool(found)

        await self.person.until(there, "what comes after consent")
        return found

    def seen(self) -> str:
        """For the report of a test that failed: where the screen's picture is, and what was written."""
        picture = self.person.display.screenshot(self.person.display.folder / "card-desk.png")
        return f"screen: {picture}\n{self.log_of_all()}"

    def log_of_all(self) -> str:
        """What agent and portal have written."""
        return self.desk.agent.logs() + self.site.portal.log_file.read_text()


def card_from_its_maker(folder: Path) -> VirtualCard:
    """A blank card with the PUK that the portal takes for a maker's."""
    made = factory_card(folder)
    assert made.transmit(bytes.fromhex("00A4040009A0000003080000100000")).endswith(b"\x90\x00")
    assert made.transmit(bytes.fromhex("0024008110") + PUK + FACTORY_PUK) == b"\x90\x00"
    made.reset()
    return made


def _known(site: Site, people: People, wanted: dict[str, str]) -> None:
    """The portal knows these people, and its options of cards are these."""
    for account in (people.olga, people.paul, people.ada):
        site.portal.add(account)
    set_options(site, wanted)


def set_options(site: Site, wanted: dict[str, str]) -> None:
    """Set options of cards."""
    site.portal.command("options", SCRIPT, *(f"--set=Cards{name}={value}" for name, value in wanted.items()))


@asynccontextmanager
async def card_desk(
    site: Site,
    screen: VirtualDisplay,
    pcscd: PrivatePcscd,
    folder: Path,
    wanted: dict[str, str] = WANTED,
    insert: Callable[[VirtualCard, int], AbstractContextManager[object]] = InReader,
) -> AsyncIterator[CardDesk]:
    """A desk with a browser at the portal's address, while the ``async with`` block runs.

    Args:
        site: a portal that runs.
        screen: where browser and window are.
        pcscd: in whose first reader the card is.
        folder: existing and empty; its path short enough for a socket's name.
        wanted: options of cards.
        insert: puts the card into the slot with that port of vpcd.
    """
    desk, people, card = Desk(folder, screen.env), People.new(), card_from_its_maker(folder)
    address = Portal(int(site.portal.portal_id.partition(":")[2]))
    policies = Policies().launch_links("inlay", site.portal.origin)
    policies.values["AlwaysOpenPdfExternally"] = True
    with ThreadPoolExecutor(1) as aside, insert(card, pcscd.vpcd_ports[0]):
        known = aside.submit(_known, site, people, wanted)
        try:
            desk.start()
            desk.trust(site)
            known.result()
            browser = chromium(screen, desk.home, portal=address, ca_file=site.ca.ca_file, policies=policies)
            async with browser as context:
                person = Person(screen, context.pages[0])
                running = CardDesk(site, desk, people, person, card, pcscd.readers[0])
                RUNNING.append(running)
                yield running
        finally:
            RUNNING.clear()
            wait_until(known.done, "the people known", seconds=60)
            set_options(site, FIRST)
            desk.stop()
