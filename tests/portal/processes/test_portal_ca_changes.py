"""What the CA has to confirm: pending until it has, the last one asked for counts, and nothing follows a revocation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.ca.authority import Reason
from portal.errors import WrongState
from portal.model.states import CaState, CertificateState
from portal.processes import ca_changes
from portal.processes.ca_changes import Change, Summary
from portal.store.tables import AuditEntry, Certificate, Revocation
from protocol.messages import Finished, Undo
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256, Kit, running_portal
from tests.support.unruly_ca import UnrulyCa

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from portal.views import CertificateView, Session

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

_ALL = {"9A", "9C", "9D"}


@pytest.fixture
def ca() -> UnrulyCa:
    """The CA."""
    return UnrulyCa()


@pytest.fixture
async def kit(tmp_path: Path, database_url: str, ca: UnrulyCa) -> AsyncIterator[Kit]:
    """A portal on that CA; what is due is done when a test says so."""
    async with running_portal(tmp_path, ca=ca, database=database_url) as running:
        await running.portal.pause()
        await running.set_options(**P256)
        yield running


async def _active(kit: Kit) -> tuple[Session, Certificate]:
    """A person with an active card, and its authentication certificate."""
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    await agent.complete()
    return session, await _certificate(kit, "9A")


async def _certificate(kit: Kit, slot: str) -> Certificate:
    async with kit.database.read() as tx:
        return (await tx.execute(select(Certificate).where(Certificate.slot == slot))).scalar_one()


async def _ask(kit: Kit, change: Change, slot: str = "9A", reason: Reason = Reason.UNSPECIFIED) -> None:
    async with kit.database.write() as tx:
        query = select(Certificate).where(Certificate.slot == slot).with_for_update()
        certificate = (await tx.execute(query)).scalar_one()
        await ca_changes.ask(tx, certificate, change, "op@example.org", kit.clock(), reason)


async def _shown(kit: Kit, session: Session, slot: str = "9A") -> CertificateView:
    (card,) = await kit.services.cards(session)
    return next(item for item in card.certificates if item.slot == slot)


async def _held_at_ca(kit: Kit, ca: UnrulyCa) -> set[str]:
    async with kit.database.read() as tx:
        rows = list(await tx.scalars(select(Certificate)))
    return {row.slot for row in rows if await ca.inner.status(row.serial) is CaState.HELD}


async def test_states_that_have_no_such_change(kit: Kit) -> None:
    """Nothing to release where nothing is on hold; nothing to hold before it is Valid or after it is Revoked."""
    await _active(kit)
    with pytest.raises(WrongState) as caught:
        await _ask(kit, Change.RELEASE)
    assert caught.value.would_do == ["On Hold"]
    with pytest.raises(ValueError, match="certificateHold"):
        await _ask(kit, Change.REVOKE, reason=Reason.CERTIFICATE_HOLD)
    await _ask(kit, Change.REVOKE)
    await kit.portal.revocations.run_due()
    for change in (Change.HOLD, Change.RELEASE):
        with pytest.raises(WrongState):
            await _ask(kit, change)
    await _ask(kit, Change.REVOKE)
    async with kit.database.read() as tx:
        assert (await tx.scalars(select(Revocation))).all() == []


async def test_hold_and_release_wait_out_the_ca(kit: Kit, ca: UnrulyCa) -> None:
    """Shown as asked for, never as done before the CA has confirmed it."""
    session, _ = await _active(kit)
    for change, before, after in (
        (Change.HOLD, CertificateState.VALID, CertificateState.ON_HOLD),
        (Change.RELEASE, CertificateState.ON_HOLD, CertificateState.VALID),
    ):
        ca.away = True
        await _ask(kit, change)
        await _ask(kit, change)
        await kit.portal.revocations.run_due()
        shown = await _shown(kit, session)
        assert (shown.state, shown.waits_for, shown.revocation_pending) == (before, change.value, False)
        async with kit.database.read() as tx:
            assert await ca_changes.summary(tx) == Summary(0, 1, kit.clock())
            (row,) = await ca_changes.waiting(tx, 10)
            assert (row.change, row.last_error, await ca_changes.waiting(tx, 10, row.certificate_id)) == (
                change,
                "unavailable",
                [],
            )
        ca.away = False
        async with kit.database.write() as tx:
            assert await ca_changes.retry_now(tx, "op@example.org", kit.clock()) == 1
        await kit.portal.revocations.run_due()
        shown = await _shown(kit, session)
        assert (shown.state, shown.waits_for) == (after, "")
        async with kit.database.read() as tx:
            assert await ca_changes.summary(tx) == Summary(0, 0, None)


async def test_a_revocation_takes_the_place_of_what_waits(kit: Kit, ca: UnrulyCa) -> None:
    """And nothing takes the revocation's."""
    session, certificate = await _active(kit)
    ca.away = True
    await _ask(kit, Change.HOLD)
    await _ask(kit, Change.REVOKE, reason=Reason.KEY_COMPROMISE)
    await _ask(kit, Change.HOLD)
    assert (await _shown(kit, session)).waits_for == "revoke"
    ca.away = False
    await kit.portal.revocations.run_due()
    assert await ca.inner.status(certificate.serial) is CaState.REVOKED
    assert (await _shown(kit, session)).state is CertificateState.REVOKED


async def test_asked_for_while_the_ca_answers(
    kit: Kit, ca: UnrulyCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation that is asked for while the CA puts on hold is carried out, too."""
    session, _ = await _active(kit)
    await _ask(kit, Change.HOLD)
    hold = ca.inner.hold

    async def slow(serial: str) -> None:
        await hold(serial)
        await _ask(kit, Change.REVOKE)

    monkeypatch.setattr(ca.inner, "hold", slow)
    await kit.portal.revocations.run_due()
    assert (await _shown(kit, session)).waits_for == "revoke"
    await kit.portal.revocations.run_due()
    assert (await _shown(kit, session)).state is CertificateState.REVOKED


async def test_the_ca_has_revoked_it_itself(kit: Kit, ca: UnrulyCa) -> None:
    """Asked to hold it, the CA says so; the portal shows it, and doesn't ask for ever."""
    session, certificate = await _active(kit)
    await ca.inner.revoke(certificate.serial, Reason.CA_COMPROMISE)
    await _ask(kit, Change.HOLD)
    await kit.portal.revocations.run_due()
    shown = await _shown(kit, session)
    assert (shown.state, shown.ca_state, shown.waits_for) == (CertificateState.REVOKED, CaState.REVOKED, "")


async def test_what_waits_survives_a_restart(tmp_path: Path, database_url: str) -> None:
    """Asked for while the CA was away, and the portal stopped; shown as pending, and done, by the next one."""
    ca = UnrulyCa()
    async with running_portal(tmp_path, ca=ca, database=database_url) as kit:
        await kit.portal.pause()
        await kit.set_options(**P256)
        _, certificate = await _active(kit)
        ca.away = True
        await _ask(kit, Change.REVOKE, reason=Reason.KEY_COMPROMISE)
    async with running_portal(tmp_path, ca=ca, database=database_url) as kit:
        await kit.portal.pause()
        shown = await _shown(kit, await kit.login())
        assert (shown.state, shown.revocation_pending) == (CertificateState.VALID, True)
        ca.away = False
        kit.clock.now += 3600
        await kit.portal.revocations.run_due()
        assert await ca.inner.status(certificate.serial) is CaState.REVOKED
        shown = await _shown(kit, await kit.login())
        assert (shown.state, shown.revocation_pending) == (CertificateState.REVOKED, False)


async def test_on_hold_until_the_proof_and_cancelled(kit: Kit, ca: UnrulyCa) -> None:
    """Never good for a moment, and revoked in the end."""
    await kit.set_options(HoldUntilProof=True)
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    await agent.make_card()
    assert await _held_at_ca(kit, ca) == _ALL
    await kit.services.cancel(session, view.id)
    assert isinstance(await agent.hear(), Undo)
    assert await kit.valid_at_ca() == []
    assert await _held_at_ca(kit, ca) == set()
    assert (await _shown(kit, session)).state is CertificateState.REVOKED


async def test_on_hold_until_the_proof(kit: Kit, ca: UnrulyCa) -> None:
    """Released before the device hears *finished*."""
    await kit.set_options(HoldUntilProof=True)
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    receipt = await agent.make_card()
    assert (await _shown(kit, session)).ca_state is CaState.HELD
    await agent.say(receipt)
    assert isinstance(await agent.hear(), Finished)
    assert await _held_at_ca(kit, ca) == set()
    assert len(await kit.valid_at_ca()) == 3
    shown = await _shown(kit, session)
    assert (shown.state, shown.ca_state) == (CertificateState.VALID, CaState.GOOD)
    async with kit.database.read() as tx:
        query = select(AuditEntry.action).where(AuditEntry.action == "certificate.released")
        assert len((await tx.scalars(query)).all()) == 3


async def test_the_ca_is_away_at_the_proof(kit: Kit, ca: UnrulyCa) -> None:
    """The card is finished, the release waits and is shown to; nothing is asked of the person again."""
    await kit.set_options(HoldUntilProof=True)
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    receipt = await agent.make_card()
    ca.away = True
    await agent.say(receipt)
    assert isinstance(await agent.hear(), Finished)
    shown = await _shown(kit, session)
    assert (shown.state, shown.ca_state, shown.waits_for) == (CertificateState.VALID, CaState.HELD, "release")
    ca.away = False
    kit.clock.now += 3600
    assert len(await kit.valid_at_ca()) == 3
    shown = await _shown(kit, session)
    assert (shown.state, shown.ca_state, shown.waits_for) == (CertificateState.VALID, CaState.GOOD, "")
