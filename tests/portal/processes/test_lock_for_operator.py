"""Lock by operator: the card is Locked for good, and no certificate of it stays good at the CA."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.errors import FieldErrors, Forbidden, WrongState
from portal.model.states import OrderState, Role, UserState, VirtualSmartCardState
from portal.processes.lock_for_operator import LockForOperator
from portal.store.tables import AuditEntry, CaCertificate, Card, Certificate, Order, Revocation
from portal.views import ObjectRef
from protocol.errors import InlayError
from tests.support import sample_tasks
from tests.support.portal_kit import P256, Kit, running_portal
from tests.support.postgresql import PrivatePostgresql
from tests.support.stored_objects import put_card, state_of_card
from tests.support.unruly_ca import UnrulyCa

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.views import ProcessView, Session

REASON = {"Reason": ["reported lost"]}


async def operator(kit: Kit, email: str = "olga@example.org") -> Session:
    return await kit.person(email, [Role.OPERATOR])


async def begin(kit: Kit, session: Session, card: str) -> ProcessView:
    return await kit.services.start_process(
        session, LockForOperator.name, ObjectRef("virtual_smart_card", card)
    )


async def made_card(kit: Kit, session: Session) -> str:
    """A card with three certificates, made by a device."""
    await kit.set_options(**P256)
    _, agent = await kit.bound_agent(session)
    await agent.complete()
    (card,) = await kit.services.cards(session)
    return card.id


async def certificates(kit: Kit) -> list[Certificate]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(Certificate)))


async def locked(tx: AsyncSession) -> list[AuditEntry]:
    """What the audit log has of cards that were locked."""
    rows = await tx.scalars(select(AuditEntry).where(AuditEntry.action == "virtual_smart_card.state"))
    return [row for row in rows if row.details["after"] == "Locked"]


@pytest.mark.parametrize("state", ["Locked", "Replaced", "Expired"])
async def test_a_final_card_names_the_states_that_would_do(kit: Kit, state: str) -> None:
    card = await put_card(kit, await kit.person(), VirtualSmartCardState(state))
    with pytest.raises(WrongState) as caught:
        await begin(kit, await operator(kit), card)
    assert caught.value.would_do == ["Active", "Inactive", "Registered"]
    assert await state_of_card(kit, card) == state


async def test_roles_and_accounts(kit: Kit) -> None:
    ada = await kit.person()
    card = await put_card(kit, ada)
    for session in (ada, await kit.person("root@example.org", [Role.ADMINISTRATOR, Role.APPROVER])):
        with pytest.raises(Forbidden):
            await begin(kit, session, card)
    olga = await operator(kit)
    view = await begin(kit, olga, card)
    await kit.portal.accounts.set_state("olga@example.org", UserState.INACTIVE)
    with pytest.raises(InlayError) as caught:
        await kit.services.next(olga, view.id, view.version, REASON)
    assert caught.value.code == "user_not_active"
    assert await state_of_card(kit, card) == "Active"


@pytest.mark.parametrize("reason", [[], [""], ["  "], ["no"], ["x" * 201], ["a\x1bb"]])
async def test_a_reason_is_needed(kit: Kit, reason: list[str]) -> None:
    card = await put_card(kit, await kit.person())
    olga = await operator(kit)
    view = await begin(kit, olga, card)
    with pytest.raises(FieldErrors) as caught:
        await kit.services.next(olga, view.id, view.version, {"Reason": reason})
    assert set(caught.value.errors) == {"Reason"}
    assert await state_of_card(kit, card) == "Active"


async def test_a_card_that_is_just_being_made_is_left_to_its_order(kit: Kit) -> None:
    """Else the order would find it Locked at its end. Once the order is undone it can be locked."""
    await kit.set_options(**P256)
    ada, olga = await kit.person(), await operator(kit)
    _, agent = await kit.bound_agent(ada)
    await agent.make_card()
    async with kit.database.read() as tx:
        card = (await tx.scalars(select(Card))).one()
        order = (await tx.scalars(select(Order))).one()
    with pytest.raises(WrongState) as caught:
        await begin(kit, olga, card.id)
    assert (caught.value.kind, caught.value.state) == ("order", OrderState.RUNNING)
    await kit.services.cancel(ada, order.process_id)
    await agent.hear()
    kit.clock.now += 7200
    await kit.portal.reconciler.run()
    view = await begin(kit, olga, card.id)
    assert (await kit.services.next(olga, view.id, view.version, REASON)).state == "finished"
    assert await state_of_card(kit, card.id) == "Locked"
    assert await kit.valid_at_ca() == []


async def test_locked_and_revoked_with_reason_unspecified(kit: Kit) -> None:
    ada, olga = await kit.person(), await operator(kit)
    card = await made_card(kit, ada)
    assert len(await kit.valid_at_ca()) == 3
    view = await begin(kit, olga, card)
    assert len(view.facts["Certificates to revoke"].split(", ")) == 3
    assert (view.subject, view.started_by) == ("ada@example.org", "olga@example.org")
    done = await kit.services.next(olga, view.id, view.version, REASON)
    assert (done.state, done.step, done.facts["Reason"]) == ("finished", "done", "reported lost")
    assert await kit.valid_at_ca() == []
    assert {row.state for row in await certificates(kit)} == {"Revoked"}
    async with kit.database.read() as tx:
        told = await tx.scalars(select(CaCertificate.reason).where(CaCertificate.revoked_at.is_not(None)))
        assert set(told) == {"unspecified"}
        (entry,) = await locked(tx)
    assert (entry.actor, entry.object_id) == ("olga@example.org", card)
    changed = {"before": "Active", "after": "Locked", "why": "locked", "note": "reported lost"}
    assert entry.details == {**changed, "holder": "ada@example.org"}


async def test_what_an_agent_is_doing_to_the_card_is_undone(kit: Kit) -> None:
    """A renewal that has its new certificates already: they are revoked with the old ones, and stay so."""
    await kit.set_options(**P256)
    ada, olga = await kit.person(), await operator(kit)
    view, agent = await kit.bound_agent(ada)
    await agent.complete()
    view = await kit.services.process(ada, view.id)
    await kit.services.next(ada, view.id, view.version)
    (card,) = await kit.services.cards(ada)
    ref = ObjectRef("virtual_smart_card", card.id)
    renewal = await kit.services.start_process(ada, "VirtualSmartCardProcRenew", ref)
    renewal, agent = await sample_tasks.carried(kit, ada, renewal, await sample_tasks.again(kit, agent))
    receipt = await agent.make_card()
    view = await begin(kit, olga, card.id)
    await kit.services.next(olga, view.id, view.version, REASON)
    ended = await kit.ended(ada, renewal.id)
    assert (ended.state, ended.error and ended.error.error) == ("undone", "card_ended")
    await agent.say(receipt)
    assert await kit.valid_at_ca() == []
    assert {row.state for row in await certificates(kit)} == {"Revoked"}
    assert len(await certificates(kit)) == 5


async def test_an_order_that_is_just_being_finished_is_waited_for(kit: Kit) -> None:
    ada, olga = await kit.person(), await operator(kit)
    card = await made_card(kit, ada)
    async with kit.database.write() as tx:
        order = (await tx.scalars(select(Order))).one()
        order.state = OrderState.FINISHING.value
    with pytest.raises(WrongState) as caught:
        await begin(kit, olga, card)
    assert (caught.value.kind, caught.value.would_do) == ("order", ["finished", "undone"])


async def test_while_the_ca_is_away_revocations_wait_and_nothing_is_shown_as_revoked(tmp_path: Path) -> None:
    ca = UnrulyCa()
    async with running_portal(tmp_path, ca=ca) as kit:
        ada, olga = await kit.person(), await operator(kit)
        card = await made_card(kit, ada)
        ca.away = True
        view = await begin(kit, olga, card)
        await kit.services.next(olga, view.id, view.version, REASON)
        await kit.portal.revocations.run_due()
        assert await state_of_card(kit, card) == "Locked"
        assert {row.state for row in await certificates(kit)} == {"Valid"}
        async with kit.database.read() as tx:
            assert len(list(await tx.scalars(select(Revocation)))) == 3
        ca.away = False
        kit.clock.now += 3600
        assert await kit.valid_at_ca() == []
        assert {row.state for row in await certificates(kit)} == {"Revoked"}


async def test_sent_twice_it_is_done_once(kit: Kit) -> None:
    card = await put_card(kit, await kit.person())
    olga = await operator(kit)
    view = await begin(kit, olga, card)
    first, second = await asyncio.gather(
        *(kit.services.next(olga, view.id, view.version, REASON) for _ in range(2))
    )
    assert first == second
    async with kit.database.read() as tx:
        assert len(await locked(tx)) == 1


async def race(kit: Kit) -> None:
    """Two operators at one card, at once: one wins, the other is told which states would do."""
    card = await put_card(kit, await kit.person())
    people = [await operator(kit, f"op{number}@example.org") for number in range(2)]
    views = [await begin(kit, session, card) for session in people]
    results = await asyncio.gather(
        *(
            kit.services.next(session, view.id, view.version, REASON)
            for session, view in zip(people, views, strict=True)
        ),
        return_exceptions=True,
    )
    refused = [result for result in results if isinstance(result, WrongState)]
    assert len(refused) == 1, results
    assert (refused[0].state, refused[0].would_do) == ("Locked", ["Active", "Inactive", "Registered"])
    assert await state_of_card(kit, card) == "Locked"
    async with kit.database.read() as tx:
        assert len(await locked(tx)) == 1


async def test_of_two_operators_one_wins(kit: Kit) -> None:
    await race(kit)


@pytest.fixture
def url() -> Iterator[str]:
    """A database of PostgreSQL; made outside the event loop."""
    with PrivatePostgresql() as server:
        yield server.fresh_database()


@pytest.mark.interop
async def test_of_two_operators_one_wins_on_postgresql(tmp_path: Path, url: str) -> None:
    async with running_portal(tmp_path, database=url) as kit:
        await race(kit)
