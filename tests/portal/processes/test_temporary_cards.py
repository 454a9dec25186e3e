"""Temporary cards: requested, issued, assigned, extended, withdrawn, locked; refusals first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import select

from portal.ca.authority import Reason
from portal.errors import FieldErrors, Forbidden, StalePage, WrongState
from portal.model.card_options import TEMPORARY_CARDS
from portal.model.states import Role, TemporaryCardState, UserState
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.change_puk import ChangeCardPuk
from portal.processes.days import date_text
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.lock_temporary_card import LockTemporaryCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store import objects, relations
from portal.store.tables import AuditEntry, Card, Certificate, ManagedCard, Revocation, User
from portal.views import ObjectRef
from tests.support.databases import BACKENDS
from tests.support.stored_objects import put_certificate, state_of_card

if TYPE_CHECKING:
    from portal.processes.definition import Definition
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

DAY = 86_400
CARD = {"Label": ["Visitor 7"], "Serial": ["00 2A"]}
REASON = {"Reason": ["brought back"]}
ON_A_CARD: Final[tuple[type[Definition], ...]] = (
    IssueTemporaryCard,
    AssignTemporaryCard,
    ExtendTemporaryCard,
    WithdrawTemporaryCard,
    LockTemporaryCard,
)
MAY_START: Final[dict[TemporaryCardState, set[type[Definition]]]] = {
    TemporaryCardState.REQUESTED: {IssueTemporaryCard},
    TemporaryCardState.FAILED: {IssueTemporaryCard, ExtendTemporaryCard, LockTemporaryCard},
    TemporaryCardState.UNASSIGNED: {AssignTemporaryCard, LockTemporaryCard},
    TemporaryCardState.ASSIGNED: {ExtendTemporaryCard, WithdrawTemporaryCard, LockTemporaryCard},
    TemporaryCardState.EXPIRED: {WithdrawTemporaryCard},
    TemporaryCardState.ABORTED: set(),
    TemporaryCardState.LOCKED: set(),
}


@pytest.fixture
async def olga(kit: Kit) -> Session:
    """An operator."""
    return await kit.person("olga@example.org", [Role.OPERATOR])


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Who needs a card for a while."""
    return await kit.person()


async def _do(kit: Kit, session: Session, process: str, card: str, form: dict[str, list[str]]) -> ProcessView:
    view = await kit.services.start_process(session, process, ObjectRef("temporary_card", card))
    return await kit.services.next(session, view.id, view.version, form)


async def _requested(kit: Kit, session: Session, form: dict[str, list[str]] = CARD) -> str:
    view = await kit.services.start_process(session, RequestTemporaryCard.name)
    done = await kit.services.next(session, view.id, view.version, form)
    assert (done.state, done.step) == ("finished", "done")
    async with kit.database.read() as tx:
        return (await tx.scalars(select(Card.id).where(Card.label == form["Label"][0]))).one()


async def _unassigned(kit: Kit, session: Session, form: dict[str, list[str]] = CARD) -> str:
    card = await _requested(kit, session, form)
    await _do(kit, session, IssueTemporaryCard.name, card, {})
    return card


async def _assigned(kit: Kit, session: Session, person: Session, form: dict[str, list[str]] = CARD) -> str:
    card = await _unassigned(kit, session, form)
    await _do(kit, session, AssignTemporaryCard.name, card, {"Person": [person.user.email]})
    return card


async def _row(kit: Kit, card: str) -> Card:
    async with kit.database.read() as tx:
        return await tx.get_one(Card, card)


async def _set(kit: Kit, **changed: list[str]) -> None:
    """Save options of temporary cards."""
    root = await kit.person("root@example.org", [Role.ADMINISTRATOR])
    await kit.save_options(root, TEMPORARY_CARDS, **changed)


async def _certificate_on(kit: Kit, card: str, owner: Session) -> str:
    certificate = await put_certificate(kit, owner)
    async with kit.database.write() as tx:
        source = objects.describe(await tx.get_one(Card, card))
        target = objects.describe(await tx.get_one(Certificate, certificate))
        await relations.relate(tx, source, target, actor="olga@example.org", at=kit.clock())
    return certificate


async def _revoked(kit: Kit) -> dict[str, str]:
    async with kit.database.read() as tx:
        return {row.certificate_id: row.reason for row in await tx.scalars(select(Revocation))}


async def test_without_the_role_nothing_starts(kit: Kit, olga: Session, ada: Session) -> None:
    card = await _assigned(kit, olga, ada)
    with pytest.raises(Forbidden):
        await kit.services.start_process(ada, RequestTemporaryCard.name)
    for process in ON_A_CARD:
        with pytest.raises(Forbidden):
            await kit.services.start_process(ada, process.name, ObjectRef("temporary_card", card))
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED


@pytest.mark.parametrize("state", list(TemporaryCardState))
async def test_in_each_state_what_fits_it_starts_and_nothing_else(
    kit: Kit, olga: Session, state: TemporaryCardState
) -> None:
    """A refusal names the states that would do."""
    card = await _requested(kit, olga)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).state = state.value
        tx.add(ManagedCard(card_id=card, key_generation=0, changed_at=0))  # its encoding was begun
    await _set(kit, TempCardsEncode=["true"])
    for process in ON_A_CARD:
        ref = ObjectRef("temporary_card", card)
        if process in MAY_START[state]:
            assert (await kit.services.start_process(olga, process.name, ref)).state == "running"
            continue
        with pytest.raises(WrongState) as caught:
            await kit.services.start_process(olga, process.name, ref)
        assert state.value not in caught.value.would_do
        assert {found.value for found in MAY_START if process in MAY_START[found]} == set(
            caught.value.would_do
        )


async def test_a_process_for_cards_of_several_kinds_names_the_states_of_this_kind(
    kit: Kit, olga: Session
) -> None:
    ref = ObjectRef("temporary_card", await _requested(kit, olga))
    with pytest.raises(WrongState) as caught:
        await kit.services.start_process(olga, ChangeCardPuk.name, ref)
    assert caught.value.would_do == ["Assigned"]


@pytest.mark.parametrize("serial", ["", "12-34", "card 7", "g1"])
async def test_a_serial_number_that_is_none(kit: Kit, olga: Session, serial: str) -> None:
    view = await kit.services.start_process(olga, RequestTemporaryCard.name)
    with pytest.raises(FieldErrors) as caught:
        await kit.services.next(olga, view.id, view.version, {"Label": ["Visitor 7"], "Serial": [serial]})
    assert set(caught.value.errors) == {"Serial"}
    async with kit.database.read() as tx:
        assert (await tx.scalars(select(Card))).all() == []


async def test_a_serial_number_is_one_cards(kit: Kit, olga: Session) -> None:
    """Until that card is locked for good; with spaces and in capitals it is the same number."""
    card = await _unassigned(kit, olga)
    view = await kit.services.start_process(olga, RequestTemporaryCard.name)
    again = {"Label": ["Visitor 8"], "Serial": ["002a"]}
    with pytest.raises(FieldErrors) as caught:
        await kit.services.next(olga, view.id, view.version, again)
    assert caught.value.errors == {"Serial": "The card Visitor 7 has this serial number."}
    await _do(kit, olga, LockTemporaryCard.name, card, REASON)
    done = await kit.services.next(olga, view.id, view.version, again)
    assert done.state == "finished"


async def test_whom_a_card_can_not_be_given_to(kit: Kit, olga: Session, ada: Session) -> None:
    """Nobody, somebody who is locked, and somebody who has one; the card stays where it is."""
    await _assigned(kit, olga, ada, {"Label": ["Visitor 1"], "Serial": ["01"]})
    lena = await kit.person("lena@example.org")
    async with kit.database.write() as tx:
        (await tx.get_one(User, lena.user.id)).state = UserState.LOCKED.value
    card = await _unassigned(kit, olga)
    view = await kit.services.start_process(olga, AssignTemporaryCard.name, ObjectRef("temporary_card", card))
    for email, said in (
        ("nobody@example.org", "There is no account"),
        (lena.user.email, "This account is locked"),
        (ada.user.email, "has the temporary card Visitor 1"),
    ):
        with pytest.raises(FieldErrors) as caught:
            await kit.services.next(olga, view.id, view.version, {"Person": [email]})
        assert said in caught.value.errors["Person"]
    assert (await _row(kit, card)).owner_id == olga.user.id
    assert await state_of_card(kit, card) == TemporaryCardState.UNASSIGNED


async def test_two_cards_for_one_person_at_once(kit: Kit, olga: Session, ada: Session) -> None:
    """One of them is given; the other stays."""
    cards = [await _unassigned(kit, olga, {"Label": [f"V{n}"], "Serial": [f"0{n}"]}) for n in (1, 2)]
    person = {"Person": [ada.user.email]}
    ended = await asyncio.gather(
        *(_do(kit, olga, AssignTemporaryCard.name, card, person) for card in cards), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in ended) == ["FieldErrors", "ProcessView"]
    states = sorted([await state_of_card(kit, card) for card in cards])
    assert states == [TemporaryCardState.ASSIGNED, TemporaryCardState.UNASSIGNED]


async def test_several_cards_where_the_option_says_so(kit: Kit, olga: Session, ada: Session) -> None:
    await _set(kit, TempCardsOnePerUser=[])
    cards = [await _assigned(kit, olga, ada, {"Label": [f"V{n}"], "Serial": [f"0{n}"]}) for n in (1, 2)]
    assert [await state_of_card(kit, card) for card in cards] == [TemporaryCardState.ASSIGNED] * 2


async def test_a_card_that_is_half_done_is_its_holders_still(kit: Kit, olga: Session, ada: Session) -> None:
    """Nobody gets a second one beside it; taken back, it is nobody's any more."""
    first = await _assigned(kit, olga, ada, {"Label": ["V1"], "Serial": ["01"]})
    async with kit.database.write() as tx:
        (await tx.get_one(Card, first)).state = TemporaryCardState.FAILED.value
    second = await _unassigned(kit, olga, {"Label": ["V2"], "Serial": ["02"]})
    with pytest.raises(FieldErrors) as caught:
        await _do(kit, olga, AssignTemporaryCard.name, second, {"Person": [ada.user.email]})
    assert "V1, which is half done: take that back with Issue or lock it" in caught.value.errors["Person"]
    assert await state_of_card(kit, second) == TemporaryCardState.UNASSIGNED
    await _do(kit, olga, IssueTemporaryCard.name, first, {})
    await _do(kit, olga, AssignTemporaryCard.name, second, {"Person": [ada.user.email]})
    assert await state_of_card(kit, second) == TemporaryCardState.ASSIGNED


async def test_a_failed_card_is_extended_by_encoding_alone(kit: Kit, olga: Session, ada: Session) -> None:
    card = await _assigned(kit, olga, ada)
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).state = TemporaryCardState.FAILED.value
        tx.add(ManagedCard(card_id=card, key_generation=0, changed_at=0))
    ref = ObjectRef("temporary_card", card)
    with pytest.raises(WrongState) as caught:
        await kit.services.start_process(olga, ExtendTemporaryCard.name, ref)
    assert caught.value.would_do == ["Assigned"]


async def test_extended(kit: Kit, olga: Session, ada: Session) -> None:
    """From now on for as long as the option said when it began; sent twice, once; an older page is refused."""
    card = await _assigned(kit, olga, ada)
    assert (await _row(kit, card)).valid_until == kit.clock() + 14 * DAY
    ref = ObjectRef("temporary_card", card)
    view = await kit.services.start_process(olga, ExtendTemporaryCard.name, ref)
    await _set(kit, TempCardsValidityDays=["30"])
    kit.clock.now += 3 * DAY
    done = await kit.services.next(olga, view.id, view.version)
    assert (await kit.services.next(olga, view.id, view.version)).version == done.version
    assert (done.state, done.facts["Extended to"]) == ("finished", date_text(kit.clock() + 14 * DAY))
    row = await _row(kit, card)
    assert (row.state, row.valid_until) == (TemporaryCardState.ASSIGNED, kit.clock() + 14 * DAY)
    with pytest.raises((StalePage, WrongState)):
        await kit.services.next(olga, view.id, view.version - 1)
    async with kit.database.read() as tx:
        entries = select(AuditEntry).where(
            AuditEntry.object_id == card, AuditEntry.action == "temporary_card.state"
        )
        whys = [entry.details["why"] for entry in await tx.scalars(entries.order_by(AuditEntry.number))]
    assert whys == ["produced", "assigned", "extended"]


async def test_extending_never_shortens(kit: Kit, olga: Session, ada: Session) -> None:
    """An option that became shorter takes no day away."""
    card = await _assigned(kit, olga, ada)
    until = (await _row(kit, card)).valid_until
    await _set(kit, TempCardsValidityDays=["2"])
    await _do(kit, olga, ExtendTemporaryCard.name, card, {})
    assert (await _row(kit, card)).valid_until == until


async def test_two_operators_withdraw_at_once(kit: Kit, olga: Session, ada: Session) -> None:
    """One has it; the other one is told the state that it is in now."""
    oscar = await kit.person("oscar@example.org", [Role.OPERATOR])
    card = await _assigned(kit, olga, ada)
    ref = ObjectRef("temporary_card", card)
    views = [await kit.services.start_process(one, WithdrawTemporaryCard.name, ref) for one in (olga, oscar)]
    ended = await asyncio.gather(
        *(
            kit.services.next(one, view.id, view.version, REASON)
            for one, view in zip((olga, oscar), views, strict=True)
        ),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in ended) == ["ProcessView", "WrongState"]


@pytest.mark.parametrize(
    ("process", "state", "reason"),
    [
        (WithdrawTemporaryCard, TemporaryCardState.UNASSIGNED, Reason.CESSATION_OF_OPERATION),
        (LockTemporaryCard, TemporaryCardState.LOCKED, Reason.UNSPECIFIED),
    ],
)
async def test_the_end_of_its_certificates(
    kit: Kit,
    olga: Session,
    ada: Session,
    process: type[WithdrawTemporaryCard | LockTemporaryCard],
    state: TemporaryCardState,
    reason: Reason,
) -> None:
    """A reason is asked for; the card's certificates wait for the CA, nobody else's do."""
    card = await _assigned(kit, olga, ada)
    own, other = await _certificate_on(kit, card, ada), await put_certificate(kit, ada)
    view = await kit.services.start_process(olga, process.name, ObjectRef("temporary_card", card))
    with pytest.raises(FieldErrors):
        await kit.services.next(olga, view.id, view.version, {"Reason": [""]})
    assert await _revoked(kit) == {}
    done = await kit.services.next(olga, view.id, view.version, REASON)
    assert (done.state, done.facts["Reason"]) == ("finished", "brought back")
    assert await _revoked(kit) == {own: reason.value}
    async with kit.database.read() as tx:
        assert (await tx.get_one(Certificate, other)).state == "Valid"
    row = await _row(kit, card)
    holder = olga if state is TemporaryCardState.UNASSIGNED else ada
    assert (row.state, row.owner_id) == (state, holder.user.id)


async def test_withdrawn_and_given_to_somebody_else(kit: Kit, olga: Session, ada: Session) -> None:
    card = await _assigned(kit, olga, ada)
    await _do(kit, olga, WithdrawTemporaryCard.name, card, REASON)
    ben = await kit.person("ben@example.org")
    await _do(kit, olga, AssignTemporaryCard.name, card, {"Person": [ben.user.email.upper()]})
    row = await _row(kit, card)
    assert (row.state, row.owner_id) == (TemporaryCardState.ASSIGNED, ben.user.id)


async def test_a_card_whose_days_are_over_expires_by_itself(kit: Kit, olga: Session, ada: Session) -> None:
    """Not a second before; its certificates go with it, and it can be withdrawn."""
    card = await _assigned(kit, olga, ada)
    certificate = await _certificate_on(kit, card, ada)
    await kit.portal.pause()
    until = (await _row(kit, card)).valid_until
    assert await kit.portal.expiry.next_due() == until
    kit.clock.now = until - 1
    await kit.portal.expiry.run_due()
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED
    kit.clock.now = until
    await asyncio.gather(kit.portal.expiry.run_due(), kit.portal.expiry.run_due())
    assert await state_of_card(kit, card) == TemporaryCardState.EXPIRED
    assert await _revoked(kit) == {certificate: Reason.CESSATION_OF_OPERATION.value}
    assert await kit.portal.expiry.next_due() is None
    async with kit.database.read() as tx:
        query = select(AuditEntry).where(AuditEntry.object_id == card, AuditEntry.actor == "portal")
        assert [entry.details["why"] for entry in await tx.scalars(query)] == ["expired"]
    olga = await kit.login("olga@example.org")
    await _do(kit, olga, WithdrawTemporaryCard.name, card, REASON)
    assert await state_of_card(kit, card) == TemporaryCardState.UNASSIGNED


async def test_a_failed_cards_certificates_end_with_its_days_and_it_stays_to_be_finished(
    kit: Kit, olga: Session, ada: Session
) -> None:
    """Not a second before, and once; with nothing left on it that is good it is due no more."""
    card = await _assigned(kit, olga, ada)
    certificate = await _certificate_on(kit, card, ada)
    await kit.portal.pause()
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).state = TemporaryCardState.FAILED.value
    until = (await _row(kit, card)).valid_until
    assert await kit.portal.expiry.next_due() == until
    kit.clock.now = until - 1
    await kit.portal.expiry.run_due()
    assert await _revoked(kit) == {}
    kit.clock.now = until
    await asyncio.gather(kit.portal.expiry.run_due(), kit.portal.expiry.run_due())
    assert await _revoked(kit) == {certificate: Reason.CESSATION_OF_OPERATION.value}
    assert await kit.portal.expiry.next_due() is None
    assert await state_of_card(kit, card) == TemporaryCardState.FAILED
    await kit.portal.revocations.run_due()
    assert await kit.portal.expiry.next_due() is None


@pytest.mark.parametrize("ended", ["Revoked", "Expired"])
async def test_a_failed_card_without_good_certificates_is_never_due(
    kit: Kit, olga: Session, ada: Session, ended: str
) -> None:
    card = await _assigned(kit, olga, ada)
    certificate = await _certificate_on(kit, card, ada)
    await kit.portal.pause()
    async with kit.database.write() as tx:
        (await tx.get_one(Card, card)).state = TemporaryCardState.FAILED.value
        (await tx.get_one(Certificate, certificate)).state = ended
    assert await kit.portal.expiry.next_due() is None
