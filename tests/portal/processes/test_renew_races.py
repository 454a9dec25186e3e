"""*Renew* in a race: its card ends between the receipt that wins and the end of the order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.processes import deleted_cards
from portal.store import audit
from portal.store.tables import Card, Order
from portal.views import ObjectRef
from tests.support import sample_tasks as samples
from tests.support.portal_kit import P256, Kit
from tests.support.software_agent import SoftwareCard

if TYPE_CHECKING:
    from portal.views import CardView, Session
    from protocol.messages import Receipt
    from tests.support.software_agent import SoftwareAgent

RENEW = "VirtualSmartCardProcRenew"


async def owner_of_card(kit: Kit) -> tuple[Session, CardView, SoftwareAgent]:
    await kit.set_options(**P256)
    session = await kit.person()
    view, agent = await kit.bound_agent(session)
    await agent.complete()
    view = await kit.services.process(session, view.id)
    await kit.services.next(session, view.id, view.version)
    assert view.card is not None
    return session, view.card, agent


async def won(kit: Kit, device: SoftwareAgent, receipt: Receipt) -> str:
    """Send a receipt that wins, to a portal that is killed before it carries the end out; the order's id."""
    reached = asyncio.Event()

    async def killed(_jti: str) -> None:
        reached.set()

    assert device.order is not None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kit.portal.incoming, "finish", killed)
        await device.say(receipt)
        async with asyncio.timeout(10):
            await reached.wait()
    return device.order.jti


async def start(
    kit: Kit, session: Session, name: str, card: CardView, agent: SoftwareAgent
) -> tuple[str, SoftwareAgent]:
    view = await kit.services.start_process(session, name, ObjectRef("virtual_smart_card", card.id))
    view, device = await samples.carried(kit, session, view, await samples.again(kit, agent))
    return view.id, device


async def end_of(kit: Kit, jti: str, process_id: str) -> tuple[str, set[str]]:
    """State of the order, and states of its certificates when the CA has caught up."""
    await kit.portal.revocations.run_due()
    async with kit.database.read() as tx:
        assert await audit.first_fault(tx) is None
        state = (await tx.get_one(Order, jti)).state
    return state, {row.state for row in (await samples.certificates_of(kit, process_id)).values()}


@pytest.mark.parametrize("confirmed", [False, True], ids=["revocation pending", "revoked"])
async def test_a_card_replaced_before_its_renewal_ends_keeps_no_new_certificate(
    kit: Kit, confirmed: bool
) -> None:
    """The renewal has won and can't be undone: it ends all the same, and nothing of it is good."""
    await kit.portal.pause()
    session, card, agent = await owner_of_card(kit)
    process, device = await start(kit, session, RENEW, card, agent)
    jti = await won(kit, device, await device.make_card())
    _, fresh = await start(kit, session, "VirtualSmartCardProcReplace", card, agent)
    fresh.card = SoftwareCard()
    await fresh.complete()
    if confirmed:
        await kit.portal.revocations.run_due()
    report = await kit.portal.reconciler.run()
    assert report.finished == 1
    assert await end_of(kit, jti, process) == ("finished", {"Revoked"})
    assert len(await kit.valid_at_ca()) == 3  # the new card's


@pytest.mark.parametrize("confirmed", [False, True], ids=["revocation pending", "revoked"])
async def test_a_card_deleted_before_its_renewal_ends_keeps_no_new_certificate(
    kit: Kit, confirmed: bool
) -> None:
    await kit.portal.pause()
    session, card, agent = await owner_of_card(kit)
    process, device = await start(kit, session, RENEW, card, agent)
    jti = await won(kit, device, await device.make_card())
    async with kit.database.write() as tx:
        await deleted_cards.end(tx, await tx.get_one(Card, card.id), "device:x", kit.clock())
    if confirmed:
        await kit.portal.revocations.run_due()
    assert (await kit.portal.reconciler.run()).finished == 1
    assert await end_of(kit, jti, process) == ("finished", {"Revoked"})
    assert await kit.valid_at_ca() == []


async def test_an_order_that_can_not_be_ended_keeps_no_other_waiting(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reconciler says which one it was, and goes on with the rest."""
    await kit.portal.pause()
    session, card, agent = await owner_of_card(kit)
    _, device = await start(kit, session, RENEW, card, agent)
    await won(kit, device, await device.make_card())

    async def refuse(_jti: str) -> None:
        raise RuntimeError("a fault of one order")

    other = await kit.person("eve@example.org")
    waiting, _ = await kit.bound_agent(other)
    kit.clock.now += 400_000
    monkeypatch.setattr(kit.portal.incoming, "finish", refuse)
    with pytest.raises(RuntimeError):  # for the alarm, which tries again
        await kit.portal.reconciler.run()
    async with kit.database.read() as tx:
        left = (await tx.scalars(select(Order.state).where(Order.process_id == waiting.id))).one()
    assert left == "undone"
