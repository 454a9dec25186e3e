"""A card that shares a management key with the portal proves itself by it: what is no proof, then what waits for it."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

import pytest

from portal.processes import card_proved
from portal.processes.change_puk import ChangeCardPuk
from portal.processes.temporary_card_encoding import OWN_KEY
from portal.store.tables import Order
from protocol.messages import (
    CardProved,
    CardSecrets,
    ChangePuk,
    Changing,
    ErrorData,
    Finished,
    ManagementAlgorithm,
    ManagementProof,
    ManagementQuestion,
    Receipt,
    Undone,
)
from tests.portal.processes.test_blocked_cards import ended
from tests.portal.processes.test_puk_verify_block import begun as begun_with_puk
from tests.portal.processes.test_puk_verify_block import closed
from tests.portal.processes.test_unblock_change_pin import actions
from tests.support.databases import BACKENDS
from tests.support.extended_cards import (
    FACTORY,
    ada,
    assigned,
    begun,
    carried_out,
    certified,
    cipher,
    complete,
    done,
    encoded,
    managed,
    olga,
    ordered,
    question,
    revoked,
    row,
    undone,
)

if TYPE_CHECKING:
    from portal.views import Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


def own(number: int, refused: int = 0) -> ManagementQuestion:
    """A question of a card with a key of its own, in mutual authentication."""
    witness = secrets.token_bytes(16)
    return question(number, refused, algorithm=ManagementAlgorithm.AES_192, challenge=None, witness=witness)


async def challenged(agent: SoftwareAgent, asked: ManagementQuestion, key: bytes) -> CardProved:
    """Ask; what a card with this key answers to the portal's challenge, which isn't told the device."""
    await agent.say(asked)
    proof = await agent.hear()
    assert isinstance(proof, ManagementProof), proof
    assert proof.challenge is not None
    answer = cipher(asked.algorithm, key).encryptor().update(proof.challenge)
    assert proof.expected_sha256 is not None
    if hashlib.sha256(answer).digest() != proof.expected_sha256:
        answer = secrets.token_bytes(len(answer))
    return CardProved(number=asked.number, response=answer)


async def mutual(kit: Kit, olga: Session, card: str) -> tuple[SoftwareAgent, bytes]:
    """A card that was mutual with the portal when it got its own key, and that key."""
    view, agent, proceed = await begun(kit, olga, card)
    asked = question(challenge=None, witness=secrets.token_bytes(8))
    await agent.say(await challenged(agent, asked, FACTORY))
    await complete(agent, replaced=ManagementAlgorithm.AES_192)
    await done(kit, olga, view)
    key = bytes(agent.ephemeral.decrypt(proceed.management_keys[0]))
    return agent, key


# --- what is no proof


@pytest.mark.parametrize("says", ["a challenge", "maker's key", "nothing", "wrong answer", "of nothing"])
async def test_what_only_says_that_it_is_the_card_gets_nothing(
    kit: Kit, olga: Session, ada: Session, says: str
) -> None:
    card = await assigned(kit, olga, ada)
    first, key = await mutual(kit, olga, card)
    before = await revoked(kit)
    _, agent, _ = await begun(kit, olga, card, first)
    management = ordered(agent).management
    assert management is not None
    assert management.proves
    match says:
        case "a challenge":
            challenge = secrets.token_bytes(16)
            await agent.say(question(algorithm=ManagementAlgorithm.AES_192, challenge=challenge))
        case "maker's key":
            await agent.say(own(1, refused=1))
        case "nothing":
            assert agent.order is not None
            await agent.say(Changing())
            await agent.say(agent.card.requests(agent.order))
        case "wrong answer":
            await agent.say(await challenged(agent, own(1), bytes(reversed(key))))
        case _:
            await agent.say(CardProved(number=1, response=secrets.token_bytes(16)))
    assert await undone(agent) == "card_not_proved"
    assert (says == "nothing") == (before != await revoked(kit))
    assert (await managed(kit, card)).proved_at is None


async def test_an_answer_counts_once_and_for_its_own_question(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    _, key = await mutual(kit, olga, card)
    _, agent, _ = await begun(kit, olga, card)
    first = await challenged(agent, own(1), key)
    await challenged(agent, own(2), key)
    await agent.say(first)
    assert await undone(agent) == "card_not_proved"


async def test_a_puk_was_told_to_no_card_that_hasnt_proved_itself(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await mutual(kit, olga, card)
    _, agent, proceed = await begun_with_puk(kit, olga, ChangeCardPuk.name, card)
    assert (proceed.puk, proceed.new_puk) == (None, None)
    assert (await managed(kit, card)).pending_puk is None
    assert "card.puk_delivered" not in await actions(kit, card)
    await agent.say(Changing())
    await agent.say(Receipt(guid=agent.card.guid, puk_replaced=True))
    assert await undone(agent) == "card_not_proved"
    assert (await row(kit, card)).sealed_puk is None


async def test_who_has_no_card_learns_nothing_that_it_gets_next(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    first, _ = await mutual(kit, olga, card)
    said = await ended(kit, olga, card, first, "card_both_blocked")
    _, agent, proceed = await begun(kit, olga, card, said)
    wanted = ordered(agent)
    assert wanted.management is not None
    assert (wanted.reset, wanted.new_puk, wanted.management.proves) == (True, True, True)
    assert wanted.management.replace
    assert (proceed.new_puk, proceed.management_keys) == (None, [])
    await agent.say(own(1, refused=1))
    assert await undone(agent) == "card_not_proved"
    known = await managed(kit, card)
    assert (known.pending_puk, known.pending_generation, known.proved_at) == (None, None, None)


async def test_a_key_that_was_only_sent_proves_no_card_in_the_next_order(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    first, key = await mutual(kit, olga, card)
    said = await ended(kit, olga, card, first, "card_both_blocked")
    view, agent, _ = await begun(kit, olga, card, said)
    await agent.say(await challenged(agent, own(1), key))
    given = await agent.hear()
    assert isinstance(given, CardSecrets)
    assert given.new_puk is not None
    assert len(given.management_keys) == len(OWN_KEY)
    await agent.say(Undone(error=ErrorData(error="user_cancelled")))
    await kit.ended(olga, view.id)
    await carried_out(kit, agent)
    _, agent, _ = await begun(kit, olga, card, agent)
    await agent.say(own(1, refused=1))
    assert await undone(agent) == "card_not_proved"


# --- what is


async def test_the_puk_comes_when_the_card_has_proved_itself_and_once(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    _, key = await mutual(kit, olga, card)
    view, agent, proceed = await begun_with_puk(kit, olga, ChangeCardPuk.name, card)
    assert agent.order is not None
    assert isinstance(agent.order.parameters, ChangePuk)
    assert agent.order.parameters.management is not None
    assert proceed.puk is None
    answer = await challenged(agent, own(1), key)
    await agent.say(answer)
    given = await agent.hear()
    assert isinstance(given, CardSecrets)
    assert given.puk is not None
    assert given.new_puk is not None
    await card_proved.take(
        kit.portal.context, agent.order.jti, answer
    )  # the portal was stopped before it noted that
    assert bytes(agent.ephemeral.decrypt(given.puk)) == b"12345678"
    await agent.say(await challenged(agent, own(2), key))  # it was away meanwhile
    await carried_out(kit, agent)
    await agent.say(Changing())
    await agent.say(Receipt(guid=agent.card.guid, puk_replaced=True))
    assert isinstance(await agent.hear(), Finished)
    await closed(kit, olga, view)
    found = await actions(kit, card)
    assert (found.count("card.proved"), found.count("card.puk_delivered")) == (1, 1)
    assert (await managed(kit, card)).proved_at == kit.clock()
    async with kit.database.read() as tx:
        assert (await tx.get_one(Order, agent.order.jti)).proved == 1


async def test_a_card_that_has_proved_itself_is_extended(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    first, key = await mutual(kit, olga, card)
    view, agent, _ = await begun(kit, olga, card, first)
    await agent.say(await challenged(agent, own(1), key))
    given = await agent.hear()
    assert given == CardSecrets()
    await complete(agent)
    await done(kit, olga, view)
    assert (await managed(kit, card)).mutual


async def test_a_card_that_never_could_is_dealt_with_as_before(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    assert not (await managed(kit, card)).mutual
    _, agent, proceed = await begun_with_puk(kit, olga, ChangeCardPuk.name, card)
    assert agent.order is not None
    assert isinstance(agent.order.parameters, ChangePuk)
    assert (agent.order.parameters.management, proceed.puk is None) == (None, False)


async def test_a_makers_key_alone_makes_no_card_known(kit: Kit, olga: Session, ada: Session) -> None:
    """It takes no key of its own: what it shares with the portal it shares with every card of its kind."""
    card = await assigned(kit, olga, ada)
    view, agent, _ = await begun(kit, olga, card)
    asked = question(challenge=None, witness=secrets.token_bytes(8))
    await agent.say(await challenged(agent, asked, FACTORY))
    answer = await certified(agent)
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(Receipt(guid=agent.card.guid, proofs=proofs))
    assert isinstance(await agent.hear(), Finished)
    await done(kit, olga, view)
    assert not (await managed(kit, card)).mutual
    assert "card.proved" not in await actions(kit, card)
