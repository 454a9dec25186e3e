"""*Extend temporary card* from an operator's page to a card in a reader, every part real; the card comes when asked."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_change_pin_and_delete import types
from tests.cards.profiles import PROFILES
from tests.cards.simulated import SimulatedCard
from tests.support.person import ENCODED_TITLE, NUMBER_TITLE, cursor_in_field, goes_on
from tests.support.portal_process import Account
from tests.support.stack import password
from tests.support.wired_card import WiredCard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.conftest import UseCase
    from tests.support.pcscd import PrivatePcscd
    from tests.support.person import Person

TITLE = r"^Encode a card - Inlay$"
SCRIPT = "--script=TempCardsScriptOptions"
PIN = "246810"
PICK = r"^Which card is it\? - Inlay$"
RIGHT_CARD = r"^Is this the right card\? - Inlay$"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def roles() -> tuple[str, ...]:
    return ("operator",)


@pytest.fixture
def holder(use_case: UseCase) -> Iterator[Account]:
    """Who has the card; the person at the desk is an operator, and temporary cards are encoded."""
    portal = use_case.site.portal
    has_it = Account(f"ada-{secrets.token_hex(3)}@example.org", "Ada Example", password())
    portal.add(has_it)
    portal.command("options", SCRIPT, "--set=TempCardsEncode=true", "--set=TempCardsKeyAlgorithm=P-256")
    yield has_it
    portal.command("options", SCRIPT, "--set=TempCardsEncode=false")


async def start(person: Person, process: str, *fields: str) -> None:
    """A process from the page that offers it, its form filled in by the keyboard, to its next page."""
    await person.click(f"button:text-is('{process}')")
    await person.page.wait_for_url("**/processes/*")
    for number, text in enumerate(fields):
        await person.page.locator("form input[type=text], form textarea").nth(number).fill(text)
    await person.next()


async def card_page(person: Person, label: str, state: str) -> None:
    """Search: temporary card, in a state; the card's page."""
    await person.page.goto(
        re.sub(r"(https://[^/]+).*", r"\1/operator/search?kind=temporary_card", person.page.url)
    )
    await person.page.get_by_label("State").select_option(state)
    await person.page.get_by_role("button", name="Search").click()
    await person.page.get_by_role("link", name=label).first.click()
    await person.page.wait_for_url("**/operator/objects/temporary_card/*")


async def assigned(person: Person, label: str, holder: Account, serial: str = "") -> None:
    """The card is entered, issued and assigned."""
    await start(person, "Request temporary card", label, serial or str(secrets.randbelow(10**8)))
    await person.see("Finished.")
    await card_page(person, label, "Requested")
    await start(person, "Issue")
    await person.see("Finished.")
    await card_page(person, label, "Unassigned")
    await start(person, "Assign", holder.email)
    await person.see("Finished.")


async def agree(person: Person, title: str = TITLE) -> None:
    """Press the window's button as soon as it can be pressed; then something is asked for."""
    window = await person.go_on(title)

    def asked() -> bool:
        _, shown = person.display.active_window()
        return bool(re.search(NUMBER_TITLE, shown)) or cursor_in_field(person.display, window)

    await person.until(asked, "what the window asks for")


async def picks(person: Person, row: int) -> None:
    """By keyboard the card in that row, counted from 1: it tells no serial number, so it is confirmed by its number."""
    window = await person.list_of_cards(PICK)
    await person.press(*["Down"] * row)
    await person.sees(window, goes_on, "the card chosen")
    await person.press("Return")
    await person.reads("Everything on this card is replaced.", title=RIGHT_CARD)
    await person.go_on(RIGHT_CARD)


async def test_the_card_is_put_in_when_inlay_asks_for_it(
    use_case: UseCase, holder: Account, pcscd: PrivatePcscd
) -> None:
    """A first encoding with a new PIN, then an extension with it; the page follows both by itself."""
    label = f"Visitor {secrets.token_hex(2)}"
    blank = SimulatedCard(next(profile for profile in PROFILES if not profile.chuid))
    async with use_case.browser() as person:
        await assigned(person, label, holder)
        await card_page(person, label, "Assigned")
        await start(person, "Extend temporary card")
        await person.page.wait_for_selector("#order[data-found]")
        await person.open_inlay(question=True)
        await types(person, TITLE, PIN, PIN)
        await person.type_number(await person.number())
        await person.see("Put the card in the reader")
        with WiredCard.simulated(pcscd.vpcd_ports[0], blank):
            await picks(person, 1)
            await person.close_window(ENCODED_TITLE)
            await person.see_step("Details")
            await person.next()
            await person.see("Finished.")

            assert blank.pin == PIN.encode().ljust(8, b"\xff")
            first = blank.objects[0x5FC105]
            await card_page(person, label, "Assigned")
            await start(person, "Extend temporary card")
            await person.page.wait_for_selector("#order[data-found]")
            await person.open_inlay(question=True)
            await agree(person)
            await types(person, TITLE, PIN)
            await person.close_window(ENCODED_TITLE)
            await person.see_step("Details")
            await person.next()
            await person.see("Finished.")
    assert blank.objects[0x5FC105] != first
    assert blank.pin_left == blank.profile.pin_tries
    found = await asyncio.to_thread(issued_to, use_case, holder.email)
    assert sorted(found.values()) == [False, True]
    assert PIN not in use_case.desk.agent.logs()
    assert PIN not in use_case.site.portal.log_file.read_text()


def issued_to(use_case: UseCase, email: str) -> dict[int, bool]:
    """Certificates of a person by serial number: whether the CA has each one as good."""
    asked, use_case.user = use_case.user, Account(email, "", "")
    try:
        return use_case.issued()
    finally:
        use_case.user = asked
