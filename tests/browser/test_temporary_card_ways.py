"""A temporary card by the ways that aren't the straight one: its options, readers and cards that go wrong, its ends.

Every part is real: Chromium, portal, agent, window, pcscd with vpcd. The card is a simulated one, which is looked into.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from portal.processes.days import date_text
from tests.browser.test_card_in_a_reader import ended, own_card, padded, set_options
from tests.browser.test_change_pin_and_delete import types
from tests.browser.test_extend_temporary_card import PICK, TITLE, agree, assigned, card_page, start
from tests.cards.profiles import PROFILES
from tests.cards.simulated import SimulatedCard
from tests.support.browser import Policies
from tests.support.card_slot import CardSlot
from tests.support.dummy_card import DummyCard
from tests.support.person import ENCODED_TITLE, goes_on
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.conftest import UseCase
    from tests.support.pcscd import PrivatePcscd
    from tests.support.person import Person
    from tests.support.stack import Site

FIRST, LAST, OTHER = "246810", "135792", "864213"
SERIAL = "16909060"
"""What the card answers to GET SERIAL, and what is printed on it."""
EVERYTHING = PROFILES[1]
ERASE = r"^Erase the card\? - Inlay$"
BOTH = r"^PIN and PUK of the card are blocked\. - Inlay$"
CHANGE, CHANGED = r"^Change the PIN of your card - Inlay$", r"^The PIN is changed - Inlay$"
PUT_IT_IN = "Put the card", "” in the reader."
ANOTHER = "is another one,", "stays as it is. Put in"
AUTHENTICATION, SIGNATURE = 0x5FC105, 0x5FC10A
PUT_DATA, USE = 0xDB, 0x87
USUAL = {
    "Encode": "false",
    "Certificates": "authentication",
    "KeyAlgorithm": "RSA-2048",
    "NewKeys": "false",
    "ValidityDays": "14",
}

pytestmark = [pytest.mark.browser, pytest.mark.timeout(360)]


@pytest.fixture
def roles() -> tuple[str, ...]:
    return "operator", "self-service"


@pytest.fixture
def usual_options(site: Site) -> Iterator[None]:
    """What the test sets is taken back."""
    yield
    set_options(site, USUAL)


@dataclass
class Scene:
    """A person who is operator and holder, a card of theirs, another one, and two readers."""

    use_case: UseCase
    person: Person
    pcscd: PrivatePcscd
    slot: CardSlot
    card: SimulatedCard = field(default_factory=lambda: SimulatedCard(EVERYTHING))
    other: SimulatedCard = field(default_factory=lambda: SimulatedCard(EVERYTHING))
    label: str = field(default_factory=lambda: f"Visitor {secrets.token_hex(2)}")

    async def put(self, card: SimulatedCard) -> None:
        await asyncio.to_thread(self.slot.put, card)

    async def begins(self, state: str = "Assigned") -> None:
        """*Extend temporary card* from the card's page, to Inlay's window."""
        await card_page(self.person, self.label, state)
        await start(self.person, "Extend temporary card")
        await self.person.page.wait_for_selector("#order[data-found]")
        await self.person.open_inlay(question=False)

    async def done(self, title: str = ENCODED_TITLE) -> None:
        await self.person.close_window(title)
        await self.person.see_step("Details")
        await self.person.next()
        await self.person.see("Finished.")

    async def torn_out(self) -> None:
        """The card is torn out at the command that was named, and pcscd has noticed."""
        assert await asyncio.to_thread(self.slot.torn.wait, 20)
        await asyncio.to_thread(self.slot.pull)


def in_days(days: int) -> str:
    """A day as the pages write it."""
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    return date_text(int(then.timestamp()))


def untouched(card: SimulatedCard) -> bool:
    """Whether a card is as it came from its maker, with all its tries."""
    new = SimulatedCard(EVERYTHING)
    return (card.objects, card.keys, card.pin, card.pin_left) == (new.objects, {}, new.pin, new.pin_left)


async def test_from_an_extension_on_paper_to_a_lock(
    use_case: UseCase, usual_options: None, pcscd: PrivatePcscd
) -> None:
    opens = Policies().launch_links("inlay", use_case.address.origin)
    with CardSlot(pcscd.vpcd_ports[0], pcscd.readers[0]) as slot:
        async with use_case.browser(opens) as person:
            scene = Scene(use_case, person, pcscd, slot)
            scene.other.serial = b"\x05\x06\x07\x08"
            await without_encoding(scene)
            await with_a_reader_that_comes_late(scene)
            await put_back_then_failed_and_finished(scene)
            await picked_from_two_readers(scene)
            await blocked_and_erased(scene)
            assert any(use_case.issued().values())
            await ended(person, scene.label, "Assigned", "Lock", "it is worn out")
    await asyncio.to_thread(
        wait_until, lambda: not any(use_case.issued().values()), "the certificates revoked", seconds=20
    )
    for pin in (FIRST, LAST, OTHER):
        assert pin not in use_case.desk.agent.logs()
        assert pin not in use_case.site.portal.log_file.read_text()


async def without_encoding(scene: Scene) -> None:
    """*Next* extends and finishes, and nobody asks for a card."""
    person = scene.person
    await assigned(person, scene.label, scene.use_case.user, SERIAL)
    await card_page(person, scene.label, "Assigned")
    set_options(scene.use_case.site, {"ValidityDays": "21"})
    await start(person, "Extend temporary card")
    await person.see("Finished.")
    await person.see(in_days(21))
    assert scene.use_case.issued() == {}


async def with_a_reader_that_comes_late(scene: Scene) -> None:
    """No PC/SC service, no card, a card that nobody knows, another card: each is said, and the right one goes on."""
    wanted = {"Encode": "true", "KeyAlgorithm": "P-256", "ValidityDays": "30"}
    set_options(scene.use_case.site, wanted | {"Certificates": "authentication,signature"})
    person, card = scene.person, scene.card
    scene.pcscd.stop()
    try:
        await scene.begins()
        await types(person, TITLE, FIRST, FIRST)
        await person.type_number(await person.number())
        await person.see("Put the card in the reader")
        await person.reads("No program can see smart cards now.", "Install or start it")
    finally:
        scene.pcscd.start()
    await person.reads(*PUT_IT_IN)
    with DummyCard(scene.pcscd.vpcd_ports[0]):
        await person.reads(
            scene.pcscd.readers[0], "This card can't be used.", "Run inlay doctor: it says what was seen"
        )
    await person.reads(*PUT_IT_IN)
    await scene.put(scene.other)
    await person.reads(*ANOTHER)
    await scene.put(card)
    await scene.done()
    await person.see(in_days(30))
    assert untouched(scene.other)
    assert card.pin == padded(FIRST)
    assert {AUTHENTICATION, SIGNATURE} <= set(card.objects)


async def put_back_then_failed_and_finished(scene: Scene) -> None:
    """Torn out while it is written, the card is asked for, another one refused, and put back the work goes on.

    Torn out again, and Inlay killed, the card is Failed: the page says so, and a fresh order finishes it.
    """
    set_options(scene.use_case.site, {"Certificates": "authentication", "NewKeys": "true"})
    card, person = scene.card, scene.person
    kept, before = card.objects[SIGNATURE], card.objects[AUTHENTICATION]
    await scene.begins()
    await agree(person)
    scene.slot.tear_at(lambda apdu: apdu[1] == PUT_DATA)
    await types(person, TITLE, FIRST)
    await scene.torn_out()
    await person.reads("Put the card", "back in the reader.")
    await scene.put(scene.other)
    await person.reads(*ANOTHER)
    scene.slot.tear_at(lambda apdu: (apdu[1], apdu[3]) == (USE, 0x9A))
    await scene.put(card)
    await scene.torn_out()
    written = card.objects[AUTHENTICATION]
    scene.use_case.desk.agent.kill()
    scene.use_case.desk.agent.start()
    await person.see("The card is half done.")
    await scene.put(card)
    await scene.begins("Failed")
    await agree(person)
    await types(person, TITLE, FIRST)
    await scene.done()
    assert untouched(scene.other)
    assert card.pin_left == EVERYTHING.pin_tries
    assert len({before, written, card.objects[AUTHENTICATION]}) == 3
    assert card.objects[SIGNATURE] == kept


async def picked_from_two_readers(scene: Scene) -> None:
    """Two readers show the card of the order: its holder picks, and no other one is worked on."""
    person, twin = scene.person, scene.card.twin()
    with CardSlot(scene.pcscd.vpcd_ports[1], scene.pcscd.readers[1]) as second:
        await asyncio.to_thread(second.put, twin)
        await own_card(person, "Unblock or change PIN", action="Change the PIN: I know it")
        await person.go_on(CHANGE)
        window = await person.list_of_cards(PICK)
        await person.reads("Pick the card for", *scene.pcscd.readers[:2], title=PICK)
        await person.press("Down", "Down")
        await person.sees(window, goes_on, "the second card chosen")
        await person.press("Return")
        await types(person, CHANGE, FIRST, OTHER, OTHER)
        await scene.done(CHANGED)
    assert (scene.card.pin, twin.pin) == (padded(FIRST), padded(OTHER))


async def blocked_and_erased(scene: Scene) -> None:
    """PIN and PUK blocked: said, with what helps; the next order asks, erases the card and encodes it anew."""
    card, person = scene.card, scene.person
    card.pin_left = card.puk_left = 0  # as another program leaves it
    await scene.begins()
    await person.go_on(TITLE)
    await person.reads("Nothing was changed now.", "Support extends or issues the card again", title=BOTH)
    await person.close_window(BOTH)
    await person.see("which offers to erase it")
    await scene.begins()
    await types(person, TITLE, LAST, LAST)
    await person.type_number(await person.number())
    await person.reads("This can't be undone. Nothing was changed yet.", title=ERASE)
    await person.go_on(ERASE)
    await scene.done()
    assert (card.pin, card.pin_left) == (padded(LAST), EVERYTHING.pin_tries)
    assert SIGNATURE not in card.objects
