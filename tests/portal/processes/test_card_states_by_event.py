"""What becomes of a card, by its state and by how the order that works on it ends; and whose it is then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import pytest

from portal.errors import WrongState
from portal.model.states import CardState, Role, TemporaryCardState, UserState
from portal.processes.abort_card import AbortCard
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.lock_temporary_card import LockTemporaryCard
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import Card
from protocol.messages import CardStep, Changing, ErrorData, KeySource, Undo, Undone
from tests.support import extended_cards as extending
from tests.support import issued_cards as issuing
from tests.support.databases import BACKENDS
from tests.support.extended_cards import ada, carried_out, olga, options, row, step
from tests.support.issued_cards import Staff
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

_T, _C = TemporaryCardState, CardState
REASON: Final = {"Reason": ["brought back"]}
TORN: Final = ErrorData(error="pcsc_card_removed")


class Work:
    """One order that a device carries out, and whose it is."""

    def __init__(
        self, kit: Kit, olga: Session, person: Session, card: str, view: str, agent: SoftwareAgent
    ) -> None:
        self.kit, self.olga, self.person, self.card, self.view, self.agent = (
            kit,
            olga,
            person,
            card,
            view,
            agent,
        )

    async def say_undone(self, *, unchanged: bool = False) -> None:
        await self.agent.say(Undone(error=TORN, unchanged=unchanged))
        await self.settled()

    async def settled(self) -> None:
        await carried_out(self.kit, self.agent)

    async def refused(self, work: Awaitable[Any]) -> None:
        with pytest.raises(WrongState):
            await work

    async def days_are_over(self) -> None:
        async with self.kit.database.write() as tx:
            (await tx.get_one(Card, self.card)).valid_until = self.kit.clock() - 1
        await self.kit.portal.expiry.run_due()

    async def holder_is_locked(self) -> None:
        await self.kit.portal.accounts.set_state(self.person.user.email, UserState.LOCKED)

    async def asked_again(self) -> str:
        """The device asks for certificates; by what the portal undoes the order."""
        assert self.agent.order is not None
        await self.agent.say(self.agent.card.requests(self.agent.order))
        undo = await self.agent.hear()
        assert isinstance(undo, Undo), undo
        await self.agent.say(Undone(error=undo.error))
        await self.settled()
        return undo.error.error


Event = Callable[[Work], Awaitable[None]]


async def finished(work: Work) -> None:
    await extending.complete(work.agent)


async def undone_before(work: Work) -> None:
    await work.say_undone()


async def half_done(work: Work) -> None:
    await work.agent.say(Changing())
    await work.say_undone()


async def half_done_and_says_unchanged(work: Work) -> None:
    """An order that makes keys."""
    await work.agent.say(Changing())
    await work.say_undone(unchanged=True)


async def days_over(work: Work) -> None:
    """It waits for the order."""
    before = await state_of_card(work.kit, work.card)
    await work.days_are_over()
    assert await state_of_card(work.kit, work.card) == before
    await work.say_undone()
    await work.kit.portal.expiry.run_due()


async def days_over_half_done(work: Work) -> None:
    await work.agent.say(Changing())
    await work.days_are_over()
    await work.say_undone()
    await work.kit.portal.expiry.run_due()


async def locked(work: Work) -> None:
    await work.agent.say(Changing())
    await step(work.kit, work.olga, LockTemporaryCard.name, work.card, {"Reason": ["lost"]})
    assert await work.asked_again() in ("card_ended", "card_changed")


async def taken_back(work: Work) -> None:
    await work.agent.say(Changing())
    failed = await state_of_card(work.kit, work.card) == _T.FAILED
    name = IssueTemporaryCard.name if failed else WithdrawTemporaryCard.name
    await step(work.kit, work.olga, name, work.card, {} if failed else REASON)
    assert await work.asked_again() in ("card_ended", "card_changed")


async def holder_locked_before(work: Work) -> None:
    await work.holder_is_locked()
    assert await work.asked_again() == "holder_not_active"


async def holder_locked(work: Work) -> None:
    await work.agent.say(Changing())
    await work.holder_is_locked()
    assert await work.asked_again() == "holder_not_active"


async def two_operators(work: Work) -> None:
    """The second one is refused, and changes nothing for the first."""
    otto = await work.kit.person("otto@example.org", [Role.OPERATOR])
    await work.refused(step(work.kit, otto, extending.EXTEND, work.card, {}))
    await finished(work)


TEMPORARY: Final[dict[Event, tuple[TemporaryCardState, TemporaryCardState]]] = {
    finished: (_T.ASSIGNED, _T.ASSIGNED),
    undone_before: (_T.ASSIGNED, _T.FAILED),
    half_done: (_T.FAILED, _T.FAILED),
    half_done_and_says_unchanged: (_T.FAILED, _T.FAILED),
    days_over: (_T.EXPIRED, _T.FAILED),
    days_over_half_done: (_T.FAILED, _T.FAILED),
    locked: (_T.LOCKED, _T.LOCKED),
    taken_back: (_T.UNASSIGNED, _T.UNASSIGNED),
    holder_locked_before: (_T.ASSIGNED, _T.FAILED),
    holder_locked: (_T.FAILED, _T.FAILED),
    two_operators: (_T.ASSIGNED, _T.ASSIGNED),
}
"""What happens, to the state of a card that was Assigned, and of one that was Failed (mission.md, section 3)."""


@pytest.mark.parametrize("start", [_T.ASSIGNED, _T.FAILED])
async def test_a_temporary_card_by_how_its_order_ends(
    kit: Kit, olga: Session, start: TemporaryCardState
) -> None:
    found = {}
    for number, event in enumerate(TEMPORARY):
        person = await kit.person(f"p{number}@example.org")
        card = await extending.assigned(kit, olga, person, serial=f"00 {42 + number}", label=f"V{number}")
        view, agent, _ = await extending.begun(kit, olga, card)
        if start is _T.FAILED:
            await agent.say(Changing())
            await agent.say(Undone(error=TORN))
            await carried_out(kit, agent)
            view, agent, _ = await extending.begun(kit, olga, card, agent)
        agent.card.serial = str(42 + number)
        await event(Work(kit, olga, person, card, view.id, agent))
        await agent.close()
        found[event.__name__] = await state_of_card(kit, card)
    column = 0 if start is _T.ASSIGNED else 1
    assert found == {event.__name__: states[column].value for event, states in TEMPORARY.items()}


async def aborted(work: Work) -> None:
    """Not while an order works on it."""
    await work.agent.say(Changing())
    await work.refused(
        issuing.step(work.kit, work.olga, AbortCard.name, work.card, {"Reason": ["not needed"]})
    )
    await work.say_undone()


async def two_issuers(work: Work) -> None:
    form = {"Serial": [(await row(work.kit, work.card)).serial]}
    otto = await work.kit.person("otto@example.org", [Role.OPERATOR])
    await work.refused(issuing.step(work.kit, otto, issuing.ISSUE, work.card, form))
    await work.say_undone()


CARDS: Final[dict[Event, tuple[CardState, CardState]]] = {
    undone_before: (_C.APPROVED, _C.FAILED),
    half_done: (_C.FAILED, _C.FAILED),
    half_done_and_says_unchanged: (_C.FAILED, _C.FAILED),
    aborted: (_C.FAILED, _C.FAILED),
    holder_locked_before: (_C.APPROVED, _C.FAILED),
    holder_locked: (_C.FAILED, _C.FAILED),
    two_issuers: (_C.APPROVED, _C.FAILED),
}
"""What happens, to the state of a card that was Approved, and of one that was Failed."""


@pytest.mark.parametrize("start", [_C.APPROVED, _C.FAILED])
async def test_a_card_by_how_its_order_ends(kit: Kit, start: CardState) -> None:
    people: Staff = await issuing.staff(kit)
    found = {}
    for number, event in enumerate(CARDS):
        person = await kit.person(f"p{number}@example.org")
        card = await issuing.approved(kit, people, person, f"Badge {number}")
        serial = str(42 + number)
        work = await issuing.begun(kit, people.olga, card, serial=serial)
        if start is _C.FAILED:
            await work.agent.say(Changing())
            await work.agent.say(Undone(error=TORN))
            await carried_out(kit, work.agent)
            work = await issuing.begun(kit, people.olga, card, work.agent, serial=serial)
        await event(Work(kit, people.olga, person, card, work.view.id, work.agent))
        await work.agent.close()
        found[event.__name__] = await state_of_card(kit, card)
    column = 0 if start is _C.APPROVED else 1
    assert found == {event.__name__: states[column].value for event, states in CARDS.items()}


async def test_a_card_that_comes_back_from_a_half_done_order_of_another_person_is_encoded_anew(
    kit: Kit, olga: Session, ada: Session
) -> None:
    """That other person's PIN, GUID and keys may be on it, though it was encoded for its holder before."""
    await options(kit, await kit.login("root@example.org"), TempCardsOnePerUser=[])
    card = await extending.assigned(kit, olga, ada)
    agent = await extending.encoded(kit, olga, card)
    eve = await kit.person("eve@example.org")
    await step(kit, olga, WithdrawTemporaryCard.name, card, REASON)
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [eve.user.email]})
    _, agent, _ = await extending.begun(kit, olga, card, agent)
    hers = extending.ordered(agent).guid
    await agent.say(Changing())
    await agent.say(Undone(error=TORN))
    await carried_out(kit, agent)
    await step(kit, olga, IssueTemporaryCard.name, card, {})
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [ada.user.email]})
    before = (await row(kit, card)).guid
    view, agent, _ = await extending.begun(kit, olga, card, agent)
    wanted = extending.ordered(agent)
    assert (wanted.pin.kind, wanted.steps) == ("new", [CardStep.SET_PIN])
    assert [key.source for key in wanted.keys] == [KeySource.GENERATE]
    assert (wanted.guid, wanted.clear_retired) == (hers, True)
    assert wanted.identity is not None
    assert wanted.identity.previous == before
    await extending.complete(agent)
    await extending.done(kit, olga, view)
    assert (await row(kit, card)).guid == hers
    view, agent, _ = await extending.begun(kit, olga, card, agent)
    assert (extending.ordered(agent).pin.kind, extending.ordered(agent).guid) == ("verify", hers)
