"""Serial numbers of cards: typed by several operators at once, one card has it and the others are told whose."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from portal.errors import FieldErrors
from portal.model.objects import ObjectKind
from portal.model.states import Role
from portal.processes import card_serials
from portal.processes.abort_card import AbortCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.store.tables import Card
from portal.views import ObjectRef, ProcessView
from protocol.messages import Changing, Finished, Receipt, Undo
from tests.support import issued_cards as cards
from tests.support.batch_orders import AES, batch_of, begun, said
from tests.support.databases import BACKENDS
from tests.support.extended_cards import ordered
from tests.support.issue_stage import ada, people

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from portal.views import Session
    from tests.support.issued_cards import Staff
    from tests.support.portal_kit import Kit

__all__ = ["ada", "people"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

SERIAL = "00 2a"
AT_ONCE = 6


async def at_once(calls: Sequence[Awaitable[ProcessView]]) -> list[str]:
    """Make calls together; one of them succeeds, and what the others are told at the serial number comes back."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, ProcessView) for one in ended].count(True) == 1, ended
    told = [one for one in ended if not isinstance(one, ProcessView)]
    for one in told:
        assert isinstance(one, FieldErrors), one
    return [one.errors["Serial"] for one in told if isinstance(one, FieldErrors)]


async def holders(kit: Kit) -> list[str]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(Card.label).where(Card.serial == "002a")))


async def operators(kit: Kit) -> list[Session]:
    return [await kit.person(f"operator{number}@example.org", [Role.OPERATOR]) for number in range(AT_ONCE)]


async def test_temporary_cards_that_are_entered_at_once(kit: Kit) -> None:
    staff = await operators(kit)
    views = [await kit.services.start_process(one, RequestTemporaryCard.name) for one in staff]
    told = await at_once(
        [
            kit.services.next(one, view.id, view.version, {"Label": [f"V{at}"], "Serial": [SERIAL]})
            for at, (one, view) in enumerate(zip(staff, views, strict=True))
        ]
    )
    (label,) = await holders(kit)
    assert told == [f"The card {label} has this serial number."] * (AT_ONCE - 1)


async def test_cards_that_are_issued_at_once(kit: Kit, people: Staff, ada: Session) -> None:
    made = [await cards.approved(kit, people, ada, f"Badge {at}") for at in range(AT_ONCE)]
    staff = await operators(kit)
    views = [
        await kit.services.start_process(one, cards.ISSUE, ObjectRef(ObjectKind.CARD, card))
        for one, card in zip(staff, made, strict=True)
    ]
    told = await at_once(
        [
            kit.services.next(one, view.id, view.version, {"Serial": [SERIAL]})
            for one, view in zip(staff, views, strict=True)
        ]
    )
    (label,) = await holders(kit)
    assert told == [f"The card {label} has this serial number."] * (AT_ONCE - 1)


async def test_a_card_that_is_issued_while_its_number_is_entered_for_another_kind(
    kit: Kit, people: Staff, ada: Session
) -> None:
    card = await cards.approved(kit, people, ada)
    otto = await kit.person("otto@example.org", [Role.OPERATOR])
    first = await kit.services.start_process(otto, RequestTemporaryCard.name)
    second = await kit.services.start_process(people.olga, cards.ISSUE, ObjectRef(ObjectKind.CARD, card))
    told = await at_once(
        [
            kit.services.next(otto, first.id, first.version, {"Label": ["V1"], "Serial": [SERIAL]}),
            kit.services.next(people.olga, second.id, second.version, {"Serial": [SERIAL]}),
        ]
    )
    (label,) = await holders(kit)
    assert told == [f"The card {label} has this serial number."]


async def test_a_number_that_two_cards_have_from_before_is_neither_ones_to_give(
    kit: Kit, people: Staff, ada: Session
) -> None:
    """Both stay as they are; the number is free when both have come to their end."""
    made = [await cards.approved(kit, people, ada, f"Badge {at}") for at in range(2)]
    async with kit.database.write() as tx:
        for card in made:
            (await tx.get_one(Card, card)).serial = "002a"
    view = await kit.services.start_process(people.olga, RequestTemporaryCard.name)
    form = {"Label": ["V1"], "Serial": [SERIAL]}
    for card in made:
        with pytest.raises(FieldErrors):
            await kit.services.next(people.olga, view.id, view.version, form)
        await cards.step(kit, people.olga, AbortCard.name, card, {"Reason": ["a double"]})
    assert (await kit.services.next(people.olga, view.id, view.version, form)).state == "finished"


async def test_one_card_that_two_stations_have_made_ready_is_one_card_objects(kit: Kit) -> None:
    """Their receipts come at once: one wins, the other is undone and told whose the card is."""
    staff = (await operators(kit))[:2]
    batch = await batch_of(kit, staff[0])
    agents = []
    for one in staff:
        agent, _ = await begun(kit, one, await kit.portal.batches.complete(one, batch))
        assert await said(agent, None, "7001") is None
        await agent.say(Changing())
        agents.append(agent)
    await asyncio.gather(
        *(
            agent.say(Receipt(guid=ordered(agent).guid, management_replaced=AES, puk_replaced=True))
            for agent in agents
        )
    )
    answers = [await agent.hear() for agent in agents]
    lost = [answer for answer in answers if isinstance(answer, Undo)]
    assert [answer.error.error for answer in lost] == ["card_in_use"]
    assert [isinstance(answer, Finished) for answer in answers].count(True) == 1


@pytest.mark.parametrize(
    ("first", "second"), [("0012345", "12345"), ("12345", "00 12345"), ("00AB", "ab"), ("ab", "00 0A B")]
)
async def test_a_number_with_other_zeros_spaces_or_case_is_the_same_card(
    kit: Kit, people: Staff, ada: Session, first: str, second: str
) -> None:
    otto = await kit.person("otto@example.org", [Role.OPERATOR])
    view = await kit.services.start_process(otto, RequestTemporaryCard.name)
    await kit.services.next(otto, view.id, view.version, {"Label": ["V1"], "Serial": [first]})
    card = await cards.approved(kit, people, ada)
    view = await kit.services.start_process(people.olga, cards.ISSUE, ObjectRef(ObjectKind.CARD, card))
    with pytest.raises(FieldErrors) as caught:
        await kit.services.next(people.olga, view.id, view.version, {"Serial": [second]})
    assert caught.value.errors == {"Serial": "The card V1 has this serial number."}


async def test_zeros_are_told_apart_between_tokens_alone(kit: Kit) -> None:
    otto = await kit.person("otto@example.org", [Role.OPERATOR])
    view = await kit.services.start_process(otto, RequestTemporaryCard.name)
    await kit.services.next(otto, view.id, view.version, {"Label": ["V1"], "Serial": ["0012"]})

    async def taken(serial: str, driver: str) -> bool:
        async with kit.database.read() as tx:
            return await card_serials.taken_by(tx, serial, driver) is not None

    assert await taken("12", "pkcs11")  # one card may be seen by both drivers
    async with kit.database.write() as tx:
        await tx.execute(update(Card).values(driver="pkcs11"))
    assert await taken("12", "piv")
    assert await taken("0012", "pkcs11")
    assert not await taken("12", "pkcs11")
    assert not await taken("120", "piv")
