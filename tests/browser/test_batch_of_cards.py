"""*Issue multiple temporary cards*: a batch of three, of which one is pulled out for good; every part real."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

import pytest

from tests.browser.test_extend_temporary_card import TITLE, agree
from tests.cards.profiles import PROFILES
from tests.cards.simulated import SimulatedCard
from tests.support.browser import Policies
from tests.support.processes import NotReadyError
from tests.support.wired_card import WiredCard

if TYPE_CHECKING:
    from tests.browser.conftest import UseCase
    from tests.support.pcscd import PrivatePcscd
    from tests.support.person import Person

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

_SET_PIN = 0x2C
_TRIES_TO_CLOSE = 10


@pytest.fixture
def roles() -> tuple[str, ...]:
    return ("operator",)


def blank(number: int) -> SimulatedCard:
    """A card from the stack, which tells its number and has no identity yet."""
    card = SimulatedCard(PROFILES[0])
    del card.objects[0x5FC102]
    card.serial = number.to_bytes(4, "big")
    return card


def guid_on(card: SimulatedCard) -> bytes:
    return card.objects[0x5FC102][29:45]


async def ordered(person: Person, label: str) -> None:
    """A batch of three; its page."""
    await person.click("button:text-is('Issue multiple temporary cards')")
    await person.page.wait_for_url("**/processes/*")
    await person.page.get_by_label("Name of the cards").fill(label)
    await person.page.get_by_label("How many").fill("3")
    await person.next()
    await person.page.wait_for_url("**/operator/batches/*")
    await person.see("3 cards are not produced yet")


async def asked_again(person: Person) -> str:
    """Inlay has opened by itself for the next card: agree there."""
    await person.page.wait_for_selector("#order[data-found]")
    assert await person.found_directly()
    return await person.go_on(TITLE)


async def given_up(person: Person, window: str) -> None:
    """Close Inlay's window, as soon as it can be closed: the card doesn't come back."""
    for _ in range(_TRIES_TO_CLOSE):
        await person.press("Escape")
        try:
            await person.gone(window, seconds=1)
        except NotReadyError:
            continue
        return
    await person.gone(window)


async def test_a_batch_of_three_with_one_that_fails(use_case: UseCase, pcscd: PrivatePcscd) -> None:
    """Inlay is opened once for a run: the page goes on to the next card, and Inlay asks for each."""
    label, port = f"Visitor {secrets.token_hex(2)}", pcscd.vpcd_ports[0]
    first, second, third, fourth = (blank(7001 + at) for at in range(4))
    pulled = threading.Event()

    def tears(apdu: bytes) -> bytes | None:
        if apdu[1] != _SET_PIN:
            return second.transmit(apdu)
        pulled.set()
        return None

    direct = Policies().allow_loopback(use_case.address.origin)
    async with use_case.browser(direct) as person:
        await ordered(person, label)
        await person.click("button:text-is('Complete order')")
        await person.page.wait_for_selector("#order[data-found]")
        assert await person.found_directly()
        await person.open_inlay(question=False)
        await agree(person)
        await person.type_number(await person.number())
        await person.see("Put the next card in the reader")
        with WiredCard.simulated(port, first):
            await person.see(f"{label} 2, card 2 of 3")
        window = await asked_again(person)
        await person.see("Put the next card in the reader")
        with WiredCard(port, tears):
            await person.until(pulled.is_set, "the card pulled out")
        await given_up(person, window)
        await person.click("button:has-text('Next card')")
        await person.see(f"{label} 3, card 3 of 3")
        await asked_again(person)
        with WiredCard.simulated(port, third):
            await person.page.wait_for_url("**/operator/batches/*")
            await person.see("1 Failed, 2 Unassigned")
            await person.see("You cancelled.")

            await person.page.get_by_label("Which cards are put in").select_option("another")
            await person.click("button:text-is('Repeat production')")
            await person.see(f"{label} 2, card 2 of 3")
            await person.page.wait_for_selector("#order[data-found]")
            assert await person.found_directly()
            await person.open_inlay(question=False)
            await person.go_on(TITLE)  # the card before is still in the reader: it stays as it is
            await person.see("Put the next card in the reader")
        with WiredCard.simulated(pcscd.vpcd_ports[1], fourth):  # in another reader: any will do
            await person.page.wait_for_url("**/operator/batches/*")
            await person.see("All cards are produced")
        await person.click("button:text-is('Complete order')")
        await person.see("Closed")
    made = (first, third, fourth)
    assert len({guid_on(card) for card in made}) == len({card.puk for card in (*made, second)}) - 1 == 3
    assert all(
        (card.pin_left, card.puk_left) == (card.profile.pin_tries, card.profile.puk_tries) for card in made
    )
    assert [card.keys for card in made] == [{}, {}, {}]
