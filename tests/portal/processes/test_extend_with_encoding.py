"""Extend a temporary card by encoding it, as it should go: first encodings, extensions, and who has had the card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import select

from portal.model.states import Role, TemporaryCardState
from portal.processes import temporary_cards
from portal.processes.archive_recovery import ArchiveRecovery
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.temporary_card_encoding import encoding_of
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard
from portal.store.tables import Card, Order, User
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import (
    CardStep,
    Changing,
    Finished,
    KeySource,
    ManagementAlgorithm,
    Receipt,
)
from tests.support.databases import BACKENDS
from tests.support.extended_cards import (
    EXTEND,
    FACTORY,
    ada,
    assigned,
    begun,
    carried_out,
    certificates,
    certified,
    complete,
    done,
    encoded,
    managed,
    olga,
    options,
    ordered,
    proved,
    question,
    revoked,
    row,
    step,
)
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


DAY: Final = 86_400


async def test_a_first_encoding_gives_pin_guid_keys_and_certificates_of_the_holder(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, proceed = await begun(kit, olga, card)
    wanted = ordered(agent)
    assert (wanted.driver, wanted.pin.kind, wanted.steps) == ("piv", "new", [CardStep.SET_PIN])
    assert wanted.identity is not None
    assert (wanted.identity.serial, wanted.identity.blank, wanted.identity.previous) == ("42", True, None)
    assert wanted.guid == (await row(kit, card)).guid
    assert proceed.puk is not None
    assert bytes(agent.ephemeral.decrypt(proceed.puk)) == b"12345678"
    assert "ada@example.org" in wanted.label
    assert agent.order is not None
    assert agent.order.account.user_id == "olga@example.org"
    assert await proved(agent, FACTORY, question())
    kit.clock.now += DAY
    await complete(agent, replaced=ManagementAlgorithm.AES_192)
    (certificate,) = await certificates(kit)
    async with kit.database.read() as tx:
        holder = (await tx.scalars(select(User).where(User.email == "ada@example.org"))).one()
    assert (certificate.owner_id, certificate.state, certificate.slot) == (holder.id, "Valid", "9A")
    assert "Ada Example" in certificate.subject
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED
    assert (await managed(kit, card)).encoded_for == holder.id
    assert (await row(kit, card)).valid_until == wanted.valid_until
    view = await kit.services.process(olga, view.id)
    assert view.step == "details"
    assert {card.id for card in await kit.services.cards(ada)} <= {
        card.id for card in await kit.services.cards(ada)
    }


async def test_an_extension_certifies_the_keys_anew_and_the_old_certificates_are_superseded(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    (old,) = await certificates(kit)
    kit.clock.now += 10 * DAY
    view, agent, proceed = await begun(kit, olga, card, agent)
    wanted = ordered(agent)
    assert (wanted.pin.kind, wanted.steps, wanted.identity) == ("verify", [], None)
    assert (proceed.puk, proceed.management_keys) == (None, [])
    assert [key.source for key in wanted.keys] == [KeySource.KEEP]
    await complete(agent)
    await done(kit, olga, view)
    new = next(item for item in await certificates(kit) if item.id != old.id)
    assert (new.state, new.key_hash) == ("Valid", old.key_hash)
    assert await revoked(kit) == {old.id}
    assert (await row(kit, card)).valid_until == wanted.valid_until
    assert wanted.valid_until >= kit.clock() + 13 * DAY


async def test_new_keys_where_the_option_says_so(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    root = await kit.login("root@example.org")
    await options(
        kit, root, TempCardsNewKeys=["true"], TempCardsCertificates=["authentication", "encryption"]
    )
    view, agent, _ = await begun(kit, olga, card, agent)
    assert [key.source for key in ordered(agent).keys] == [KeySource.GENERATE, KeySource.IMPORT_IF_POSSIBLE]
    agent.card.imports = False
    await complete(agent)
    facts = (await kit.services.process(olga, view.id)).facts
    assert "lost with the card" in facts["Encryption key"]
    await done(kit, olga, view)
    await revoked(kit)
    states = [(item.slot, item.state) for item in await certificates(kit)]
    assert sorted(states) == [("9A", "Revoked"), ("9A", "Valid"), ("9D", "Valid")]
    assert {item.key_source for item in await certificates(kit)} == {"generate"}


async def test_a_card_with_a_new_encryption_key_gets_its_old_one_as_an_earlier_one_and_a_kept_one_not(
    kit: Kit, olga: Session, ada: Session
) -> None:
    root = await kit.login("root@example.org")
    await options(kit, root, TempCardsCertificates=["encryption"])
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    old = (await certificates(kit))[0]
    person = ObjectRef("user", ada.user.id)
    view = await kit.services.start_process(olga, ArchiveRecovery.name, person)
    await kit.services.next(olga, view.id, view.version, {"Reason": ["old mail"]})
    paul = await kit.person("paul@example.org", [Role.APPROVER])
    seen = await kit.services.process(paul, view.id)
    await kit.services.next(paul, view.id, seen.version, {"Decision": ["agree"]})
    stays = await kit.services.start_process(olga, EXTEND, ObjectRef("temporary_card", card))
    assert "Earlier encryption keys" not in stays.facts
    await kit.services.cancel(olga, stays.id)
    await options(kit, root, TempCardsNewKeys=["true"])
    view, agent, _ = await begun(kit, olga, card, agent)
    assert [(key.slot, key.optional) for key in ordered(agent).keys] == [("9D", False), ("82", True)]
    assert not ordered(agent).clear_retired
    answer = await certified(agent)
    assert [item.certificate for item in answer.certificates if item.slot == "82"] == [old.der]
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(Receipt(guid=agent.card.guid, proofs=proofs))
    assert isinstance(await agent.hear(), Finished)
    assert (
        "1 of 1 are on the card"
        in (await kit.services.process(olga, view.id)).facts["Earlier encryption keys"]
    )


async def test_keys_of_a_person_whose_encoding_broke_off_go_when_somebody_else_gets_the_card(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, _ = await begun(kit, olga, card)
    assert not ordered(agent).clear_retired
    await agent.say(Changing())
    await carried_out(kit, agent)
    assert agent.order is not None
    eve = await kit.person("eve@example.org")
    async with kit.database.write() as tx:
        begun_card = await tx.get_one(Card, card)
        options_now = await temporary_cards.options(tx)
        again = await encoding_of(tx, begun_card, options_now, kit.clock())
        begun_card.owner_id = eve.user.id
        others = await encoding_of(tx, begun_card, options_now, kit.clock())
    assert (again["clear_retired"], others["clear_retired"]) == (False, True)


async def test_keys_of_whoever_had_the_card_go_also_where_the_next_person_gets_fewer(
    kit: Kit, olga: Session, ada: Session
) -> None:
    """With the new PIN the next person could else sign and decipher by them."""
    root = await kit.login("root@example.org")
    await options(kit, root, TempCardsCertificates=["authentication", "signature", "encryption"])
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["brought back"]})
    eve = await kit.person("eve@example.org")
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [eve.user.email]})
    await options(kit, root, TempCardsCertificates=["authentication"])
    view, agent, _ = await begun(kit, olga, card, agent)
    assert (ordered(agent).clear, ordered(agent).clear_retired) == (["9C", "9D"], True)
    await complete(agent)
    await done(kit, olga, view)
    kit.clock.now += 1
    _, agent, _ = await begun(kit, olga, card, agent)
    assert (ordered(agent).clear, ordered(agent).clear_retired) == ([], False)


async def test_another_persons_card_gets_another_identity(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    first = (await row(kit, card)).guid
    await step(kit, olga, WithdrawTemporaryCard.name, card, {"Reason": ["brought back"]})
    await kit.portal.revocations.run_due()
    eve = await kit.person("eve@example.org")
    await step(kit, olga, AssignTemporaryCard.name, card, {"Person": [eve.user.email]})
    view, agent, proceed = await begun(kit, olga, card, agent)
    wanted = ordered(agent)
    assert wanted.guid != first
    assert wanted.identity is not None
    assert (wanted.identity.previous, wanted.identity.blank) == (first, False)
    assert wanted.clear_retired
    assert wanted.pin.kind == "new"
    assert proceed.puk is not None
    assert [key.source for key in wanted.keys] == [KeySource.GENERATE]
    await complete(agent)
    await done(kit, olga, view)
    assert (await row(kit, card)).guid == wanted.guid
    async with kit.database.read() as tx:
        assert len(list(await tx.scalars(select(Order).where(Order.state == "finished")))) == 2


async def test_a_code_that_was_never_claimed_leaves_nothing(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    view = await step(kit, olga, EXTEND, card, {})
    with pytest.raises(InlayError):
        await (await kit.agent()).claim("AAAAAAAAAAAAAAAAAAAAAA")
    view = await kit.services.process(olga, view.id)
    await kit.services.cancel(olga, view.id)
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED
