"""Unblock or change the PIN of a card in a reader: whose, when, what isn't accepted, then both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from portal.errors import FieldErrors, NotFound, WrongState
from portal.model.states import ProcessState, Role, TemporaryCardState
from portal.processes.check_card import CheckCard
from portal.processes.sign_text import SignText
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import AuditEntry
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import (
    Authenticate,
    ChangePin,
    ErrorData,
    Finished,
    ManagementAlgorithm,
    Proceed,
    Receipt,
    SlotProof,
    UnblockPin,
    Undo,
    Undone,
)
from tests.support.card_signatures import digest_of, signed
from tests.support.databases import BACKENDS
from tests.support.extended_cards import ada, assigned, carried_out, encoded, olga, options, row, step
from tests.support.stored_objects import put_card, state_of_card

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)

NAME = UnblockChangePin.name


async def begun(
    kit: Kit, ada: Session, card: str, action: str, puk: str = "portal"
) -> tuple[ProcessView, SoftwareAgent, Proceed]:
    """An order that a device of hers has claimed and agreed to; bound by its number."""
    view = await step(kit, ada, NAME, card, {"Action": [action], "PUK": [puk]})
    code = await kit.services.new_code(ada, view.id)
    agent = await kit.agent()
    await agent.claim(code.code)
    assert agent.order is not None
    assert agent.order.binding == "number"
    await agent.consent(number="417")
    await kit.bind(ada, view.id, "417")
    proceed = await agent.hear()
    assert isinstance(proceed, Proceed)
    agent.card.guid = (await row(kit, card)).guid
    return view, agent, proceed


async def actions(kit: Kit, card: str) -> list[str]:
    async with kit.database.read() as tx:
        query = select(AuditEntry.action).where(AuditEntry.object_id == card)
        return list(await tx.scalars(query.order_by(AuditEntry.number)))


async def test_only_who_has_the_card_and_only_once_it_was_encoded_for_them(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    ref = ObjectRef("temporary_card", card)
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(ada, NAME, ref)
    assert caught.value.code == "card_not_encoded"
    await encoded(kit, olga, card)
    eve = await kit.person("eve@example.org")
    with pytest.raises(NotFound):
        await kit.services.start_process(eve, NAME, ref)
    virtual = await put_card(kit, ada)
    with pytest.raises(NotFound):
        await kit.services.start_process(ada, NAME, ObjectRef("virtual_smart_card", virtual))
    view = await kit.services.start_process(ada, NAME, ref)
    with pytest.raises(FieldErrors):
        await kit.services.next(ada, view.id, view.version, {"Action": ["guess"], "PUK": ["portal"]})
    for form in ({}, {"PUK": [""]}, {"PUK": ["12345678"]}):
        with pytest.raises(FieldErrors) as wrong:
            await kit.services.next(ada, view.id, view.version, {"Action": ["unblock"], **form})
        assert list(wrong.value.errors) == ["PUK"]
        assert "12345678" not in str(wrong.value.errors)
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["brought back"]})
    with pytest.raises((NotFound, WrongState)):
        await kit.services.next(ada, view.id, view.version, {"Action": ["change"], "PUK": ["portal"]})


async def test_the_card_stands_among_the_persons_cards_while_it_is_theirs(
    kit: Kit, olga: Session, ada: Session
) -> None:
    assert await kit.services.cards(ada) == []
    card = await assigned(kit, olga, ada)
    (shown,) = await kit.services.cards(ada)
    assert (shown.id, shown.kind, shown.state) == (card, "temporary_card", TemporaryCardState.ASSIGNED)
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["brought back"]})
    assert await kit.services.cards(ada) == []


@pytest.mark.parametrize("action", ["change", "unblock"])
@pytest.mark.parametrize("fault", ["guid", "proofs", "management"])
async def test_what_is_not_that_cards_receipt_undoes_the_order(
    kit: Kit, olga: Session, ada: Session, action: str, fault: str
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    view, agent, _ = await begun(kit, ada, card, action)
    proof = SlotProof(slot="9A", certificate_sha256=bytes(32), signature=b"1234")
    wrong = {
        "guid": Receipt(guid="ab" * 16),
        "proofs": Receipt(guid=agent.card.guid, proofs=[proof]),
        "management": Receipt(guid=agent.card.guid, management_replaced=ManagementAlgorithm.AES_192),
    }
    await agent.say(wrong[fault])
    undo = await agent.hear()
    assert isinstance(undo, Undo)
    assert undo.error.error == "params_invalid"
    assert (await kit.services.process(ada, view.id)).state is ProcessState.FAILED


async def test_the_card_checks_and_signs_once_it_was_encoded(kit: Kit, olga: Session, ada: Session) -> None:
    """*Check card* and *Sign* are for cards in a reader, too; what is signed is checked by the same code."""
    card = await assigned(kit, olga, ada)
    for name in (CheckCard.name, SignText.name):
        with pytest.raises(InlayError) as caught:
            await kit.services.start_process(ada, name, ObjectRef("temporary_card", card))
        assert caught.value.code == "card_not_encoded"
    keys = (await encoded(kit, olga, card)).card
    view = await step(kit, ada, CheckCard.name, card, {})
    code = await kit.services.new_code(ada, view.id)
    agent = await kit.agent()
    await agent.claim(code.code)
    assert agent.order is not None
    wanted = agent.order.parameters
    assert isinstance(wanted, Authenticate)
    assert (wanted.driver, wanted.guid) == ("piv", keys.guid)
    await agent.consent(number="417")
    await kit.bind(ada, view.id, "417")
    assert isinstance(await agent.hear(), Proceed)
    given = signed(keys.keys["9A"], keys.certificates["9A"], digest_of(agent))
    await agent.say(Receipt(guid=keys.guid, signature=given))
    assert isinstance(await agent.hear(), Finished)
    assert "The card works" in (await kit.services.process(ada, view.id)).facts["Result"]


async def test_an_unknown_pin_is_said_in_the_page(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    view, agent, _ = await begun(kit, ada, card, "change")
    await agent.say(Undone(error=ErrorData(error="card_pin_unknown")))
    await kit.ended(ada, view.id)
    view = await kit.services.process(ada, view.id)
    assert view.error is not None
    assert view.error.error == "card_pin_unknown"
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED


@pytest.mark.parametrize("action", ["change", "unblock"])
async def test_the_pin_is_set_and_only_the_puk_ever_comes_from_here(
    kit: Kit, olga: Session, ada: Session, action: str
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    view, agent, proceed = await begun(kit, ada, card, action)
    assert agent.order is not None
    wanted = agent.order.parameters
    assert isinstance(wanted, ChangePin if action == "change" else UnblockPin)
    assert (wanted.card, wanted.driver, wanted.guid) == (card, "piv", (await row(kit, card)).guid)
    assert (wanted.pin_policy.min_length, wanted.pin_policy.max_length) == (6, 8)
    if action == "change":
        assert proceed.puk is None
    else:
        assert proceed.puk is not None
        assert bytes(agent.ephemeral.decrypt(proceed.puk)) == b"12345678"
    await agent.say(Receipt(guid=agent.card.guid))
    assert isinstance(await agent.hear(), Finished)
    view = await kit.services.process(ada, view.id)
    assert (await kit.services.next(ada, view.id, view.version)).state is ProcessState.FINISHED
    found = await actions(kit, card)
    assert found.count("card.pin_changed" if action == "change" else "card.pin_unblocked") == 1
    assert found.count("card.puk_delivered") == (0 if action == "change" else 1)
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED


async def test_the_option_says_where_a_known_pin_is_typed_and_the_portals_puk_wants_the_window(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    root = await kit.person("rita@example.org", [Role.ADMINISTRATOR])
    await options(kit, root, TempCardsPINEntry=["pad"])
    view, agent, _ = await begun(kit, ada, card, "change")
    assert agent.order is not None
    assert isinstance(agent.order.parameters, ChangePin)
    assert agent.order.parameters.where == "pad"
    await kit.services.cancel(ada, view.id)
    assert isinstance(await agent.hear(), Undo)
    await agent.say(Undone(error=ErrorData(error="cancelled")))
    _, agent, _ = await begun(kit, ada, card, "unblock")
    assert agent.order is not None
    assert isinstance(agent.order.parameters, UnblockPin)
    assert (agent.order.parameters.puk, agent.order.parameters.where) == ("escrow", "window")


async def test_a_card_that_has_refused_the_portals_puk_is_unblocked_by_who_has_it(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    _, agent, _ = await begun(kit, ada, card, "unblock")
    await agent.say(Undone(error=ErrorData(error="card_puk_other")))
    await carried_out(kit, agent)
    with pytest.raises(FieldErrors) as caught:
        await step(kit, ada, NAME, card, {"Action": ["unblock"], "PUK": ["portal"]})
    assert "costs a try" in caught.value.errors["PUK"]
    view, agent, proceed = await begun(kit, ada, card, "unblock", "typed")
    assert agent.order is not None
    wanted = agent.order.parameters
    assert isinstance(wanted, UnblockPin)
    assert (wanted.puk, wanted.where, proceed.puk) == ("typed", "window", None)
    assert (await kit.services.process(ada, view.id)).facts["PIN"].endswith("which its holder types")
    await agent.say(Receipt(guid=agent.card.guid))
    assert isinstance(await agent.hear(), Finished)
    found = await actions(kit, card)
    assert (found.count("card.puk_delivered"), found.count("card.pin_unblocked")) == (1, 1)
    with pytest.raises(FieldErrors):  # that the PUK of its holder is right says nothing of the portal's
        await step(kit, ada, NAME, card, {"Action": ["unblock"], "PUK": ["portal"]})


async def test_a_refused_puk_of_the_portals_keeps_nobody_from_changing_a_known_pin(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    _, agent, _ = await begun(kit, ada, card, "unblock")
    await agent.say(Undone(error=ErrorData(error="card_puk_other")))
    await carried_out(kit, agent)
    _, agent, proceed = await begun(kit, ada, card, "change")
    assert agent.order is not None
    assert isinstance(agent.order.parameters, ChangePin)
    assert proceed.puk is None


@pytest.mark.parametrize("where", ["pad", "auto"])
async def test_a_puk_that_its_holder_has_is_typed_where_pins_are(
    kit: Kit, olga: Session, ada: Session, where: str
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    root = await kit.person("rita@example.org", [Role.ADMINISTRATOR])
    await options(kit, root, TempCardsPINEntry=[where])
    _, agent, _ = await begun(kit, ada, card, "unblock", "typed")
    assert agent.order is not None
    assert isinstance(agent.order.parameters, UnblockPin)
    assert (agent.order.parameters.puk, agent.order.parameters.where) == ("typed", where)
