"""Cards of every kind from the real portal's pages: entered by the number on them, blocked, and encoded once more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from sqlalchemy import select

from portal.ca.authority import Reason
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import Role
from portal.processes import tasks
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.block_card import BlockCardInReader
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.lock_temporary_card import LockTemporaryCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.store.tables import Card, Certificate
from portal.views import ObjectRef
from tests.cards.independent.in_reader import card_of, kinds
from tests.cards.profiles import PROFILES, RESET, SERIAL, Profile
from tests.cards.simulated import SimulatedCard
from tests.support.agent_parts import without_keystore
from tests.support.attack_stage import outcome, running_stage
from tests.support.physical_orders import PRINTED
from tests.support.simulated_readers import SimulatedReaders

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.attack_stage import Stage
    from tests.support.certificates import ThrowAwayCA
    from tests.support.fake_windows import Answer, FakeWindow

NEW, LATER = b"246810", b"975310"
TELLS = next(each for each in PROFILES if RESET in each.yubico and each.metadata)
ERASE = (None, None)


class Desk(NamedTuple):
    """An operator with a reader, and who gets the cards."""

    stage: Stage
    readers: SimulatedReaders
    olga: Session
    ada: Session

    async def step(self, process: str, card: str, form: dict[str, list[str]]) -> ProcessView:
        services = self.stage.kit.services
        view = await services.start_process(self.olga, process, ObjectRef("temporary_card", card))
        return await services.next(self.olga, view.id, view.version, form)

    async def assigned(self, label: str, serial: str = PRINTED, who: str = "ada@example.org") -> str:
        """Enter the card in hand, and give it to a person; its id."""
        services = self.stage.kit.services
        view = await services.start_process(self.olga, RequestTemporaryCard.name)
        await services.next(self.olga, view.id, view.version, {"Label": [label], "Serial": [serial]})
        async with self.stage.kit.database.read() as tx:
            found = (await tx.scalars(select(Card.id).where(Card.label == label))).one()
        await self.step(IssueTemporaryCard.name, found, {})
        await self.step(AssignTemporaryCard.name, found, {"Person": [who]})
        return found

    async def ordered(self, process: str, card: str, answers: Sequence[Answer]) -> str:
        """Have something done to the card in the reader; how it ended."""
        self.stage.kit.clock.now += 1
        return await self.carried_out(await self.step(process, card, {}), answers)

    async def carried_out(self, view: ProcessView, answers: Sequence[Answer]) -> str:
        """Have a process's order carried out; how it ended."""
        code = await self.stage.kit.services.new_code(self.olga, view.id)
        windows = self.stage.victim.windows
        windows.answers, before = answers, len(windows.opened)
        ending = asyncio.create_task(outcome(self.stage.open_link(self.stage.victim, code.link)))
        async with asyncio.timeout(20), windows.changed:
            await windows.changed.wait_for(lambda: len(windows.opened) > before)
        binding = asyncio.create_task(self._bind(view, windows.opened[before]))
        try:
            ended = await ending
        finally:
            binding.cancel()
        if ended != "finished":  # the device has said so; the portal takes it
            await self.stage.kit.ended(self.olga, view.id)
        view = await self.stage.kit.services.process(self.olga, view.id)
        if ended == "finished":
            await self.stage.kit.services.next(self.olga, view.id, view.version)
        return ended

    async def _bind(self, view: ProcessView, window: FakeWindow) -> None:
        await window.until("number")
        assert window.number is not None
        await self.stage.kit.bind(self.olga, view.id, window.number)

    @property
    def window(self) -> FakeWindow:
        """The last order's."""
        return self.stage.victim.windows.opened[-1]

    async def row(self, card: str) -> Card:
        async with self.stage.kit.database.read() as tx:
            return await tx.get_one(Card, card)


@pytest.fixture
async def desk(tmp_path: Path, https_ca: ThrowAwayCA, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    without_keystore(monkeypatch)
    readers = SimulatedReaders()
    async with running_stage(tmp_path, https_ca, readers) as stage:
        root = await stage.kit.person("root@example.org", [Role.ADMINISTRATOR])
        await stage.kit.save_options(
            root,
            TEMPORARY_CARDS,
            TempCardsEncode=["true"],
            TempCardsKeyAlgorithm=["P-256"],
            TempCardsCertificates=["authentication"],
        )
        ada = await stage.kit.person()
        await stage.kit.person("bob@example.org")
        yield Desk(stage, readers, await stage.kit.person("olga@example.org", [Role.OPERATOR]), ada)


def guid_on(card: SimulatedCard) -> str:
    return card.objects[0x5FC102][29:45].hex()


async def test_a_card_in_use_is_not_encoded_for_somebody_else_under_another_number(desk: Desk) -> None:
    desk.readers.put(card := SimulatedCard(PROFILES[0]))
    first = await desk.assigned("Visitor 7")
    assert await desk.ordered(ExtendTemporaryCard.name, first, [(None, NEW)]) == "finished"
    before = (dict(card.objects), dict(card.keys), card.pin)
    second = await desk.assigned("Visitor 8", "00 99", "bob@example.org")
    assert await desk.ordered(ExtendTemporaryCard.name, second, [(None, LATER)]) == "card_of_other_object"
    assert (card.objects, card.keys, card.pin) == before
    assert [(await desk.row(each)).state for each in (first, second)] == ["Assigned", "Assigned"]


@pytest.mark.parametrize("profile", kinds(12), ids=lambda profile: profile.name)
async def test_every_kind_of_card_is_encoded_for_the_first_time(desk: Desk, profile: Profile) -> None:
    desk.readers.put(card := card_of(profile))
    found = await desk.assigned("Visitor 7")
    assert await desk.ordered(ExtendTemporaryCard.name, found, [(None, NEW)]) == "finished"
    assert len(desk.window.confirmed) == (SERIAL not in profile.yubico)
    assert guid_on(card) == (await desk.row(found)).guid
    assert card.pin == NEW.ljust(8, b"\xff")


async def test_a_card_that_somebody_blocked_is_erased_by_the_second_order_and_no_sooner(desk: Desk) -> None:
    """The first one finds it out, and leaves the card as it is; the portal knows it from then on."""
    desk.readers.put(card := SimulatedCard(TELLS))
    found = await desk.assigned("Visitor 7")
    assert await desk.ordered(ExtendTemporaryCard.name, found, [(None, NEW)]) == "finished"
    card.pin_left = card.puk_left = 0
    before = dict(card.objects)
    assert await desk.ordered(ExtendTemporaryCard.name, found, [(None, None)]) == "card_both_blocked"
    assert card.objects == before
    assert (await desk.row(found)).state == "Assigned"
    view = await desk.stage.kit.services.start_process(
        desk.olga, ExtendTemporaryCard.name, ObjectRef("temporary_card", found)
    )
    assert "PIN and PUK are blocked" in dict(view.facts)["Card"]
    await desk.stage.kit.services.cancel(desk.olga, view.id)
    assert await desk.ordered(ExtendTemporaryCard.name, found, [(None, LATER), ERASE]) == "finished"
    row = await desk.row(found)
    assert (guid_on(card), card.pin) == (row.guid, LATER.ljust(8, b"\xff"))
    kit = desk.stage.kit
    assert row.sealed_puk is not None
    assert bytes(kit.portal.context.keys.unseal(row.sealed_puk, tasks.puk_label(found))) == card.puk
    await kit.portal.revocations.run_due()
    async with kit.database.read() as tx:
        issued = list(await tx.scalars(select(Certificate).order_by(Certificate.created_at)))
    assert sorted(item.state for item in issued) == ["Revoked", "Valid"]
    assert {item.revocation_reason for item in issued} == {None, Reason.SUPERSEDED.value}
    # it isn't blocked any more: the next order leaves its keys, and asks for the PIN
    kept = dict(card.keys)
    assert await desk.ordered(ExtendTemporaryCard.name, found, [(None, None), (LATER, None)]) == "finished"
    assert card.keys == kept


async def test_a_card_that_was_blocked_for_good_is_entered_again_and_encoded(desk: Desk) -> None:
    desk.readers.put(card := SimulatedCard(TELLS))
    old = await desk.assigned("Visitor 7")
    assert await desk.ordered(ExtendTemporaryCard.name, old, [(None, NEW)]) == "finished"
    await desk.step(LockTemporaryCard.name, old, {"Reason": ["found in the street"]})
    assert await desk.ordered(BlockCardInReader.name, old, [(None, None)]) == "finished"
    assert (card.pin_left, card.puk_left) == (0, 0)
    new = await desk.assigned("Visitor 9", who="bob@example.org")
    assert await desk.ordered(ExtendTemporaryCard.name, new, [(None, LATER), ERASE]) == "finished"
    assert (guid_on(card), card.pin) == ((await desk.row(new)).guid, LATER.ljust(8, b"\xff"))
    assert list(card.keys) == [0x9A]


async def test_where_it_cant_be_reset_that_is_the_end_of_the_card_and_said(desk: Desk) -> None:
    """It comes with its number, so that it is told apart, and without a reset: like most cards."""
    desk.readers.put(card := SimulatedCard(PROFILES[0]))
    found = await desk.assigned("Visitor 7")
    card.pin_left = card.puk_left = 0
    before = dict(card.objects)
    assert await desk.ordered(ExtendTemporaryCard.name, found, [(None, NEW)]) == "card_no_reset"
    assert card.objects == before
