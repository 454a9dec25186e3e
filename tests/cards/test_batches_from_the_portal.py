"""Temporary cards made ready in batches by the real portal and the real agent's core: cards of every kind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.ports import UserCancelled
from portal.processes import tasks
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_multiple_temporary_cards import IssueMultipleTemporaryCards
from portal.store.tables import Card, ManagedCard
from tests.cards.profiles import PROFILES, SERIAL, Profile
from tests.cards.simulated import PIN, PUK, SimulatedCard, factory_key
from tests.cards.test_cards_from_the_portal import NEW, TELLS, Desk, guid_on
from tests.cards.test_cards_from_the_portal import desk as desk
from tests.support.physical_orders import personalised, untouched

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from portal.views import ProcessView

AGREES = [(None, None)] * 2
"""To the card, and where nobody knows which PUK it has to finding that out."""
FULL = PROFILES[0]
KINDS = list({(each.chuid, SERIAL in each.yubico): each for each in reversed(PROFILES)}.values())
"""Blank or not, with a serial number that it tells or without."""


async def ordered(desk: Desk, count: int) -> str:
    """A batch."""
    services = desk.stage.kit.services
    view = await services.start_process(desk.olga, IssueMultipleTemporaryCards.name)
    form = {"Label": ["Visitor"], "Count": [str(count)], "First": ["1"]}
    return (await services.next(desk.olga, view.id, view.version, form)).batch


async def completed(desk: Desk, batch: str) -> ProcessView:
    """The next card's process."""
    process = await desk.stage.kit.portal.batches.complete(desk.olga, batch)
    assert process is not None
    return await desk.stage.kit.services.process(desk.olga, process)


async def repeated(desk: Desk, batch: str, card: str, *, another: bool) -> ProcessView:
    """The process of a card that is produced once more."""
    process = await desk.stage.kit.portal.batches.repeat(
        desk.olga, batch, [card], "another" if another else "same"
    )
    assert process is not None
    return await desk.stage.kit.services.process(desk.olga, process)


async def made(
    desk: Desk, view: ProcessView, meanwhile: tuple[str, Callable[[], Awaitable[None]]] | None = None
) -> str:
    """Have a card made; as soon as the window says a text something happens."""
    ending = asyncio.create_task(desk.carried_out(view, AGREES))
    if meanwhile is not None:
        text, happens = meanwhile
        windows = desk.stage.victim.windows
        opened = len(windows.opened)
        async with asyncio.timeout(20), windows.changed:
            await windows.changed.wait_for(lambda: len(windows.opened) > opened)
        await windows.opened[opened].until_said(text)
        await happens()
    return await ending


async def states(desk: Desk, batch: str) -> list[str]:
    view = await desk.stage.kit.portal.batches.one(desk.olga, batch)
    return [place.state for place in view.places]


async def managed(desk: Desk, card: Card) -> ManagedCard:
    async with desk.stage.kit.database.read() as tx:
        return await tx.get_one(ManagedCard, card.id)


def contents(card: SimulatedCard) -> tuple[object, ...]:
    return dict(card.objects), dict(card.keys), card.pin, card.puk, dict(card.keys_by_algorithm)


# --- refusals


async def test_who_says_no_to_a_card_that_is_not_blank_has_nothing_written(desk: Desk) -> None:
    batch = await ordered(desk, 1)
    desk.readers.put(card := personalised())
    before = contents(card)
    desk.stage.victim.windows.this_card = UserCancelled("consent")
    assert await made(desk, await completed(desk, batch)) == "user_cancelled"
    assert untouched(desk.readers)
    assert contents(card) == before
    assert await states(desk, batch) == ["Requested"]


async def test_a_card_of_another_system_is_refused_by_its_management_key(desk: Desk) -> None:
    batch = await ordered(desk, 1)
    desk.readers.put(card := SimulatedCard(FULL))
    card.keys_by_algorithm = dict.fromkeys(card.keys_by_algorithm, bytes(range(24)))
    before = contents(card)
    assert await made(desk, await completed(desk, batch)) == "card_management_wrong"
    assert contents(card) == before
    assert await states(desk, batch) == ["Requested"]


async def test_the_card_that_was_made_before_is_named_and_stays_and_the_next_one_is_waited_for(
    desk: Desk,
) -> None:
    batch = await ordered(desk, 2)
    desk.readers.put(first := SimulatedCard(TELLS))
    assert await made(desk, await completed(desk, batch)) == "finished"
    before, second = contents(first), SimulatedCard(TELLS)
    second.serial = b"\1\2\3\5"

    async def swapped() -> None:
        desk.readers.put(second)

    swap = ("It is the card “Visitor 1” of the portal", swapped)
    assert await made(desk, await completed(desk, batch), swap) == "finished"
    assert contents(first) == before
    assert guid_on(second) != guid_on(first)
    assert first.puk != second.puk
    assert first.keys_by_algorithm != second.keys_by_algorithm
    assert await states(desk, batch) == ["Unassigned", "Unassigned"]


# --- production


@pytest.mark.parametrize("profile", KINDS, ids=lambda profile: profile.name)
async def test_every_kind_of_card_is_made_ready_and_then_encoded_for_its_first_holder(
    desk: Desk, profile: Profile
) -> None:
    """Ready, it has its own secrets and nobody's keys; its holder's encoding asks nobody which card it is."""
    batch = await ordered(desk, 1)
    desk.readers.put(card := SimulatedCard(profile))
    view = await completed(desk, batch)
    assert view.target is not None
    assert await made(desk, view) == "finished"
    row = await desk.row(view.target.id)
    told = SERIAL in profile.yubico
    assert len(desk.window.confirmed) == profile.chuid
    assert desk.window.details is None  # the page goes on; nobody closes a window for each card
    assert (row.state, row.guid) == ("Unassigned", guid_on(card))
    assert row.serial == (str(int.from_bytes(card.serial, "big")) if told else "")
    assert card.pin != PIN.ljust(8, b"\xff")
    assert (card.pin_left, card.puk_left) == (profile.pin_tries, profile.puk_tries)
    assert not [tag for tag in card.objects if tag in (0x5FC105, 0x5FC10A, 0x5FC10B, 0x5FC101)]
    keys = desk.stage.kit.portal.context.keys
    kept = PUK if row.sealed_puk is None else keys.unseal(row.sealed_puk, tasks.puk_label(row.id))
    assert bytes(kept) == card.puk
    known = await managed(desk, row)
    own = known.key_generation == 1
    assert own == (card.keys_by_algorithm != {each: factory_key(each) for each in profile.management})
    await desk.step(AssignTemporaryCard.name, row.id, {"Person": ["ada@example.org"]})
    assert await desk.ordered(ExtendTemporaryCard.name, row.id, [(None, NEW)]) == "finished"
    assert desk.window.confirmed == []
    assert card.pin == NEW.ljust(8, b"\xff")
    assert guid_on(card) == (await desk.row(row.id)).guid != row.guid
    assert (await managed(desk, row)).prepared_at is None


# --- what fails


@pytest.mark.parametrize("another", [False, True], ids=["the same card", "another card"])
async def test_a_card_that_is_pulled_out_for_good_is_finished_or_replaced(desk: Desk, another: bool) -> None:
    """No try is spent on either way; the card object stays the same one."""
    batch = await ordered(desk, 1)
    desk.readers.put(card := SimulatedCard(FULL))
    view = await completed(desk, batch)
    assert view.target is not None
    desk.readers.tear = lambda _number, apdu: "after" if apdu[1] == 0x2C else None
    given_up = ("Without it the card stays half done", lambda: desk.window.close_by_person())
    assert await made(desk, view, given_up) == "user_cancelled"
    assert await states(desk, batch) == ["Failed"]
    desk.readers.tear = lambda _number, _apdu: None
    half = contents(card)
    if another:
        other = SimulatedCard(FULL)
        other.serial = b"\1\2\3\5"
    else:
        other = card
    desk.readers.put(other)
    view = await repeated(desk, batch, view.target.id, another=another)
    assert await made(desk, view) == "finished"
    assert (other.pin_left, other.puk_left) == (FULL.pin_tries, FULL.puk_tries)
    assert (contents(card) == half) == another
    row = await desk.row(view.target.id if view.target else "")
    assert (row.state, row.guid) == ("Unassigned", guid_on(other))
    if another:
        assert guid_on(card) != guid_on(other)
        assert card.puk != other.puk
