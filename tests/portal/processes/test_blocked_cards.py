"""A card that has said that its PIN and PUK are blocked: what the portal makes of that, and what it doesn't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.model.states import TemporaryCardState
from portal.processes.blocked_cards import is_blocked
from portal.store.tables import Card
from protocol.messages import CardStep, Changing, ErrorData, KeySource, ManagementAlgorithm, Receipt, Undone
from tests.support.databases import BACKENDS
from tests.support.extended_cards import (
    FACTORY,
    ada,
    assigned,
    begun,
    carried_out,
    certificates,
    certified,
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
)
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from portal.views import Session
    from protocol.messages import Proceed
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)
MAKERS = b"12345678"


async def own_puk(kit: Kit, olga: Session, card: str) -> SoftwareAgent:
    """A card that was encoded, and has taken a PUK of its own."""
    view, agent, _ = await begun(kit, olga, card)
    assert await proved(agent, FACTORY, question())
    await finished(agent, puk_replaced=True)
    await done(kit, olga, view)
    return agent


async def finished(agent: SoftwareAgent, *, puk_replaced: bool) -> None:
    answer = await certified(agent)
    assert agent.order is not None
    proofs = [agent.card.prove(agent.order, item, agent.ephemeral) for item in answer.certificates]
    await agent.say(
        Receipt(
            guid=agent.card.guid,
            proofs=proofs,
            management_replaced=ManagementAlgorithm.AES_192,
            puk_replaced=puk_replaced,
        )
    )
    await agent.hear()


async def ended(kit: Kit, olga: Session, card: str, device: SoftwareAgent, code: str) -> SoftwareAgent:
    """Another order of the card, which its device ends with an error before anything is changed."""
    view, agent, _ = await begun(kit, olga, card, device)
    await agent.say(Undone(error=ErrorData(error=code)))
    await kit.ended(olga, view.id)
    await carried_out(kit, agent)
    return agent


async def blocked(kit: Kit, card: str) -> bool:
    async with kit.database.read() as tx:
        return await is_blocked(tx, await tx.get_one(Card, card))


def puks_of(agent: SoftwareAgent, proceed: Proceed) -> tuple[bytes | None, bytes | None]:
    tokens = (proceed.puk, proceed.new_puk)
    puk, new = (None if each is None else bytes(agent.ephemeral.decrypt(each)) for each in tokens)
    return puk, new


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        (["card_pin_blocked"], False),
        (["card_puk_blocked"], False),
        (["pcsc_card_removed"], False),
        (["card_puk_blocked", "card_pin_blocked"], True),
        (["card_both_blocked"], True),
        (["card_both_blocked", "user_cancelled"], True),
        (["card_both_blocked", "card_puk_other"], False),
    ],
)
async def test_it_is_known_by_what_the_card_has_said_since_it_took_a_pin_or_puk(
    kit: Kit, olga: Session, ada: Session, said: list[str], is_so: bool
) -> None:
    card = await assigned(kit, olga, ada)
    agent = await encoded(kit, olga, card)
    for code in said:
        agent = await ended(kit, olga, card, agent, code)
    assert await blocked(kit, card) == is_so
    assert await state_of_card(kit, card) == TemporaryCardState.ASSIGNED


async def test_a_card_that_isnt_known_to_be_blocked_keeps_its_keys_and_may_not_be_reset(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    agent = await own_puk(kit, olga, card)
    _, agent, proceed = await begun(kit, olga, card, agent)
    wanted = ordered(agent)
    assert (wanted.reset, wanted.new_puk, wanted.identity) == (False, False, None)
    assert {key.source for key in wanted.keys} == {KeySource.KEEP}
    assert puks_of(agent, proceed) == (None, None)


@pytest.mark.parametrize("takes", [True, False])
async def test_a_blocked_card_gets_an_order_from_the_beginning_with_its_makers_puk_and_another_one(
    kit: Kit, olga: Session, ada: Session, takes: bool
) -> None:
    """Given up half way the next one is like it. Until a card has shown that it has another PUK its own is kept.

    It gets another GUID, and the same one at the second try: programs know the card by the one that it had.
    """
    card = await assigned(kit, olga, ada)
    agent = await own_puk(kit, olga, card)
    before = await row(kit, card)
    own, had = before.sealed_puk, before.guid
    assert own is not None
    agent = await ended(kit, olga, card, agent, "card_both_blocked")
    drawn, views, guids = set(), [], set()
    for last in (False, True):
        view, agent, proceed = await begun(kit, olga, card, agent)
        wanted = ordered(agent)
        assert (wanted.reset, wanted.new_puk, wanted.steps) == (True, True, [CardStep.SET_PIN])
        assert wanted.identity is not None
        assert (wanted.identity.previous, wanted.identity.serial) == (had, "42")
        guids.add(wanted.guid)
        assert (wanted.identity.blank, wanted.identity.printed) == (True, "0042")
        assert wanted.management is not None
        assert (wanted.management.algorithm, len(proceed.management_keys)) == (None, 2)
        puk, new = puks_of(agent, proceed)
        assert (puk, proceed.puk_unsure) == (MAKERS, last)
        drawn.add(new)
        assert (await row(kit, card)).sealed_puk == own
        views.append(view)
        # its maker's key comes last: the card may have been sent another one
        assert not await proved(agent, FACTORY, question())
        assert await proved(agent, FACTORY, question(2, refused=1))
        if not last:
            await agent.say(Changing())
            await agent.say(Undone(error=ErrorData(error="pcsc_card_removed")))
            await kit.ended(olga, view.id)
            await carried_out(kit, agent)
    assert len(drawn) == 1
    await finished(agent, puk_replaced=takes)
    await done(kit, olga, views[-1])
    found = await row(kit, card)
    assert guids == {found.guid}
    assert found.guid != had
    assert (found.sealed_puk is not None, found.sealed_puk != own) == (takes, True)
    assert (await managed(kit, card)).pending_puk is None
    assert not await blocked(kit, card)


async def test_what_a_reset_has_erased_is_revoked_whether_its_slot_is_filled_again_or_not(
    kit: Kit, olga: Session, ada: Session
) -> None:
    root = await kit.login("root@example.org")
    await options(kit, root, TempCardsCertificates=["authentication", "signature"])
    card = await assigned(kit, olga, ada)
    agent = await own_puk(kit, olga, card)
    before = {item.id for item in await certificates(kit)}
    assert len(before) == 2
    await ended(kit, olga, card, agent, "card_both_blocked")
    await options(kit, root, TempCardsCertificates=["authentication"])
    view, agent, _ = await begun(kit, olga, card)
    assert await proved(agent, FACTORY, question(2, refused=1))
    await finished(agent, puk_replaced=True)
    await done(kit, olga, view)
    assert await revoked(kit) == before
    assert [item.slot for item in await certificates(kit) if item.state == "Valid"] == ["9A"]
