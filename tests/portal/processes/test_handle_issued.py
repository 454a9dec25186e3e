"""Certificates left in Issued: an operator has them revoked, but not one whose order may still prove it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.errors import FieldErrors, Forbidden, WrongState
from portal.model.states import CertificateState, Role
from portal.processes.handle_issued import HandleIssued
from portal.store.tables import Certificate, Revocation
from portal.views import ObjectRef
from tests.support.databases import BACKENDS
from tests.support.portal_kit import P256
from tests.support.stored_objects import put_certificate, state_of_certificate

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit

pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def olga(kit: Kit) -> Session:
    """An operator."""
    return await kit.person("olga@example.org", [Role.OPERATOR])


async def _start(kit: Kit, session: Session, certificate: str) -> ProcessView:
    return await kit.services.start_process(session, HandleIssued.name, ObjectRef("certificate", certificate))


async def test_refused(kit: Kit, olga: Session) -> None:
    """Without the role, in another state, and with a reason that doesn't revoke."""
    ada = await kit.person()
    with pytest.raises(Forbidden):
        await _start(kit, ada, await put_certificate(kit, ada, CertificateState.ISSUED))
    with pytest.raises(WrongState) as caught:
        await _start(kit, olga, await put_certificate(kit, ada, CertificateState.VALID))
    assert caught.value.would_do == ["Issued"]
    view = await _start(kit, olga, await put_certificate(kit, ada, CertificateState.ISSUED))
    for reason in ("certificateHold", "removeFromCRL", "because"):
        with pytest.raises(FieldErrors):
            await kit.services.next(olga, view.id, view.version, {"Reason": [reason]})


async def test_its_order_may_still_prove_it(kit: Kit, olga: Session) -> None:
    """Then the order's states that would do are named."""
    await kit.set_options(**P256)
    session = await kit.person()
    _, agent = await kit.bound_agent(session)
    await agent.make_card()
    async with kit.database.read() as tx:
        certificate = (await tx.scalars(select(Certificate.id))).first()
    assert certificate is not None
    with pytest.raises(WrongState) as caught:
        await _start(kit, olga, certificate)
    assert (caught.value.kind, caught.value.would_do) == ("order", ["finished", "undoing", "undone"])


async def test_revoked_with_a_reason(kit: Kit, olga: Session) -> None:
    """In the queue with the reason; still Issued until the CA has confirmed it; sent twice, done once."""
    await kit.portal.pause()
    ada = await kit.person()
    certificate = await put_certificate(kit, ada, CertificateState.ISSUED)
    view = await _start(kit, olga, certificate)
    form = {"Reason": ["keyCompromise"], "Note": ["found by the monthly search"]}
    for _ in range(2):
        done = await kit.services.next(olga, view.id, view.version, form)
        assert done.state == "finished"
    async with kit.database.read() as tx:
        row = (await tx.execute(select(Revocation))).scalar_one()
    assert (row.certificate_id, row.reason, row.change) == (certificate, "keyCompromise", "revoke")
    assert await state_of_certificate(kit, certificate) == "Issued"
