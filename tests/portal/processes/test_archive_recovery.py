"""Archived keys leave the archive again only as the option says: who may ask, who may agree, once, and not for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal import option_store
from portal.errors import Forbidden, NotFound, SecondPerson
from portal.model import archive_options
from portal.model.states import Role, UserState
from portal.processes import recovery_permits
from portal.processes.archive_recovery import ArchiveRecovery
from portal.store.tables import ArchivedKey, AuditEntry, Order, Process, RecoveryPermit
from portal.views import ObjectRef
from protocol import jose
from protocol.errors import InlayError
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

_REASON = {"Reason": ["the card was lost"]}
_HOURS = 24


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Whose keys they are: one is in the archive."""
    await kit.set_options(**P256)
    session = await kit.person()
    await kit.known_agent(session)
    return session


@pytest.fixture
async def olga(kit: Kit) -> Session:
    """An operator who may approve, too."""
    return await kit.person("olga@example.org", [Role.OPERATOR, Role.APPROVER])


@pytest.fixture
async def paul(kit: Kit) -> Session:
    """An approver."""
    return await kit.person("paul@example.org", [Role.APPROVER])


async def _need_two(kit: Kit, *, needed: bool = True) -> None:
    async with kit.database.write() as tx:
        saved = await option_store.current(tx, archive_options.NAME)
        values = {**saved.values, archive_options.TWO_PERSONS: needed}
        await option_store.save(tx, archive_options.NAME, saved.version, values, by="test", now=kit.clock())


async def _asked(kit: Kit, operator: Session, person: Session) -> ProcessView:
    """A request that waits for its approver."""
    ref = ObjectRef("user", person.user.id)
    view = await kit.services.start_process(operator, ArchiveRecovery.name, ref)
    return await kit.services.next(operator, view.id, view.version, _REASON)


async def _say(kit: Kit, approver: Session, view: ProcessView, decision: str) -> ProcessView:
    seen = await kit.services.process(approver, view.id)
    return await kit.services.next(approver, view.id, seen.version, {"Decision": [decision]})


async def _deliver(kit: Kit, person: Session) -> tuple[str, bytes]:
    """Have the person's last order recover the key; the token, and the archive's public key."""
    recipient = jose.SigningKey.generate()
    async with kit.database.write() as tx:
        orders = select(Order).where(Order.user_id == person.user.id).order_by(Order.created_at.desc())
        order = (await tx.scalars(orders)).first()
        key = (await tx.execute(select(ArchivedKey))).scalar_one()
        assert order is not None
        token = await recovery_permits.deliver(kit.portal.context, tx, order, key.id, recipient.public)
    assert recipient.decrypt(token)
    return token, key.public_key


async def _actions(kit: Kit) -> list[tuple[str, str]]:
    query = (
        select(AuditEntry)
        .where(AuditEntry.action.startswith("archived_key.reco"))
        .order_by(AuditEntry.number)
    )
    async with kit.database.read() as tx:
        return [(entry.actor, entry.action) for entry in await tx.scalars(query)]


async def test_one_person_is_enough_by_default(kit: Kit, ada: Session, olga: Session) -> None:
    """For an order of their own; what else is asked for waits for its second person."""
    await _deliver(kit, ada)
    assert (await _asked(kit, olga, ada)).step == "agree"


async def test_an_order_that_somebody_else_began_needs_an_agreement_whatever_the_option_says(
    kit: Kit, ada: Session, olga: Session, paul: Session
) -> None:
    """A device of an operator's gets nothing by the operator's word alone."""
    recipient = jose.SigningKey.generate()

    async def deliver() -> None:
        async with kit.database.write() as tx:
            order = (await tx.scalars(select(Order))).one()
            process = await tx.get_one(Process, order.process_id)
            order.user_id, process.subject_id = olga.user.id, ada.user.id
            key = (await tx.execute(select(ArchivedKey))).scalar_one()
            await recovery_permits.deliver(kit.portal.context, tx, order, key.id, recipient.public)

    with pytest.raises(InlayError) as caught:
        await deliver()
    assert caught.value.code == "recovery_not_approved"
    await _say(kit, paul, await _asked(kit, olga, ada), "agree")
    await deliver()
    assert [action for _, action in await _actions(kit)][-1] == "archived_key.recovered"


async def test_nobody_gets_a_key_of_somebody_else(
    kit: Kit, ada: Session, olga: Session, paul: Session
) -> None:
    """Not even by an agreement about themselves or about its owner."""
    await _say(kit, paul, await _asked(kit, olga, ada), "agree")
    async with kit.database.write() as tx:
        order = (await tx.scalars(select(Order))).one()
        process = await tx.get_one(Process, order.process_id)
        process.subject_id = olga.user.id
        key = (await tx.execute(select(ArchivedKey))).scalar_one()
        with pytest.raises(InlayError) as caught:
            await recovery_permits.deliver(
                kit.portal.context, tx, order, key.id, jose.SigningKey.generate().public
            )
    assert caught.value.code == "internal"


async def test_not_without_an_agreement(kit: Kit, ada: Session, olga: Session, paul: Session) -> None:
    """Neither before anybody asked, nor while it waits, nor after a refusal."""
    await _need_two(kit)

    async def refused() -> None:
        with pytest.raises(InlayError) as caught:
            await _deliver(kit, ada)
        assert caught.value.code == "recovery_not_approved"
        async with kit.database.write() as tx:
            with pytest.raises(InlayError):
                await recovery_permits.check(tx, ada.user.id, kit.clock())

    await refused()
    view = await _asked(kit, olga, ada)
    await refused()
    assert (await _say(kit, paul, view, "refuse")).state == "failed"
    await refused()
    assert await _actions(kit) == [("paul@example.org", "archived_key.recovery_refused")]


async def test_who_may_not(kit: Kit, ada: Session, olga: Session, paul: Session) -> None:
    """Ask: who isn't an operator; nor for somebody without keys. Agree: who asked; nor who isn't an approver."""
    await _need_two(kit)
    with pytest.raises(Forbidden):
        await _asked(kit, ada, ada)
    with pytest.raises(NotFound, match=r"The archive has no key of this person\."):
        await _asked(kit, olga, paul)
    view = await _asked(kit, olga, ada)
    with pytest.raises(SecondPerson):
        await _say(kit, olga, view, "agree")
    with pytest.raises(NotFound):
        await _say(kit, ada, view, "agree")
    async with kit.database.read() as tx:
        assert (await tx.scalars(select(RecoveryPermit))).all() == []


async def test_nobody_agrees_for_themselves(kit: Kit, olga: Session) -> None:
    """An approver whose keys they are isn't the second person."""
    await kit.set_options(**P256)
    await _need_two(kit)
    carl = await kit.person("carl@example.org", [Role.SELF_SERVICE, Role.APPROVER])
    _, agent = await kit.bound_agent(carl)
    await agent.complete()
    view = await _asked(kit, olga, carl)
    with pytest.raises(SecondPerson):
        await _say(kit, carl, view, "agree")


async def test_locked_meanwhile(kit: Kit, ada: Session, olga: Session, paul: Session) -> None:
    """Between request and agreement."""
    await _need_two(kit)
    view = await _asked(kit, olga, ada)
    await kit.portal.accounts.set_state("ada@example.org", UserState.LOCKED)
    with pytest.raises(Exception, match="active"):
        await _say(kit, paul, view, "agree")


async def test_too_late(kit: Kit, ada: Session, olga: Session, paul: Session) -> None:
    """The request ends after its hours, and so does the agreement."""
    await _need_two(kit)
    view = await _asked(kit, olga, ada)
    kit.clock.now += _HOURS * 3600 + 1
    olga, paul = await kit.login("olga@example.org"), await kit.login("paul@example.org")
    late = await _say(kit, paul, view, "agree")
    assert late.state == "failed"
    assert late.error is not None
    assert late.error.error == "recovery_request_expired"
    view = await _asked(kit, olga, ada)
    assert (await _say(kit, paul, view, "agree")).state == "finished"
    kit.clock.now += _HOURS * 3600
    with pytest.raises(InlayError):
        await _deliver(kit, ada)


async def test_two_persons_and_one_order(kit: Kit, ada: Session, olga: Session, paul: Session) -> None:
    """The agreement is one order's, which may ask again; another order needs another."""
    await _need_two(kit)
    view = await _asked(kit, olga, ada)
    assert (await _say(kit, paul, view, "agree")).state == "finished"
    async with kit.database.write() as tx:
        await recovery_permits.check(tx, ada.user.id, kit.clock())
    await _deliver(kit, ada)
    await _deliver(kit, ada)
    async with kit.database.read() as tx:
        permit = (await tx.execute(select(RecoveryPermit))).scalar_one()
    assert (permit.asked_by, permit.approved_by, permit.used_at) == (olga.user.id, paul.user.id, kit.clock())
    (device, recovered), approved = (await _actions(kit))[1], (await _actions(kit))[0]
    assert approved == ("paul@example.org", "archived_key.recovery_approved")
    assert device.startswith("device:")
    assert recovered == "archived_key.recovered"
    kit.clock.now += 1
    await kit.at_open(ada)
    with pytest.raises(InlayError):
        await _deliver(kit, ada)
