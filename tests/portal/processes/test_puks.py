"""PUKs of temporary cards: what is refused, what is kept when an order ends badly, then as it should go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocol.messages import ErrorData, Finished, ManagementAlgorithm, Receipt, Undone
from tests.support.databases import BACKENDS
from tests.support.extended_cards import (
    FACTORY,
    ada,
    assigned,
    begun,
    carried_out,
    certified,
    done,
    managed,
    olga,
    proved,
    question,
    row,
    step,
    undone,
)

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


def opened(agent: SoftwareAgent, token: str | None) -> bytes:
    assert token is not None
    return bytes(agent.ephemeral.decrypt(token))


async def receipted(agent: SoftwareAgent, *, puk_replaced: bool) -> object:
    """What the portal says to the receipt of a card that has, or hasn't, taken its own PUK."""
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
    return await agent.hear()


async def encoded(
    kit: Kit, olga: Session, card: str, agent: SoftwareAgent, view: ProcessView, *, puk_replaced: bool = True
) -> None:
    assert await proved(agent, FACTORY, question())
    assert isinstance(await receipted(agent, puk_replaced=puk_replaced), Finished)
    await done(kit, olga, view)


async def kept(kit: Kit, card: str) -> bytes | None:
    """The card's own PUK, as the portal keeps it."""
    sealed = (await row(kit, card)).sealed_puk
    return (
        None
        if sealed is None
        else bytes(kit.portal.context.keys.unseal(sealed, b"inlay-puk\0" + card.encode()))
    )


async def test_a_puk_that_was_not_to_be_replaced_is_not_believed(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, _ = await begun(kit, olga, card)
    await encoded(kit, olga, card, agent, view)
    before = await kept(kit, card)
    view, again, proceed = await begun(kit, olga, card, agent)
    assert (proceed.puk, proceed.new_puk) == (None, None)
    answer = await certified(again)
    assert again.order is not None
    proofs = [again.card.prove(again.order, item, again.ephemeral) for item in answer.certificates]
    await again.say(Receipt(guid=again.card.guid, proofs=proofs, puk_replaced=True))
    assert await undone(again) == "params_invalid"
    assert await kept(kit, card) == before


@pytest.mark.parametrize("changing", [False, True])
async def test_after_an_order_that_ended_badly_the_next_one_brings_the_same_puk_and_says_what_is_unsure(
    kit: Kit, olga: Session, ada: Session, changing: bool
) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, proceed = await begun(kit, olga, card)
    assert not proceed.puk_unsure
    first = opened(agent, proceed.new_puk)
    if changing:
        await certified(agent)
    await agent.say(Undone(error=ErrorData(error="pcsc_card_removed")))
    await carried_out(kit, agent)
    assert await kept(kit, card) is None
    view, again, second = await begun(kit, olga, card, agent)
    assert opened(again, second.new_puk) == first
    assert opened(again, second.puk) == b"12345678"
    assert second.puk_unsure == changing
    await encoded(kit, olga, card, again, view)
    assert await kept(kit, card) == first
    state = await managed(kit, card)
    assert (state.pending_puk, state.puk_unsure) == (None, False)


async def test_a_puk_that_the_card_has_refused_leaves_nothing_unsure(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    _, agent, _ = await begun(kit, olga, card)
    await certified(agent)
    await agent.say(Undone(error=ErrorData(error="card_puk_other")))
    await carried_out(kit, agent)
    _, _, second = await begun(kit, olga, card, agent)
    assert not second.puk_unsure


async def test_a_card_that_takes_no_puk_keeps_the_makers(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, _ = await begun(kit, olga, card)
    await encoded(kit, olga, card, agent, view, puk_replaced=False)
    assert await kept(kit, card) is None
    assert (await managed(kit, card)).pending_puk is None


async def test_a_card_gets_a_puk_of_its_own_which_its_next_holder_s_pin_is_set_by(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    view, agent, proceed = await begun(kit, olga, card)
    own = opened(agent, proceed.new_puk)
    assert opened(agent, proceed.puk) == b"12345678"
    assert own.isdigit()
    assert len(own) == 8
    assert own != b"12345678"
    await encoded(kit, olga, card, agent, view)
    assert await kept(kit, card) == own
    grace = await kit.person("grace@example.org")
    await step(kit, olga, "TempCardsProcWithdraw", card, {"Reason": ["left the house"]})
    await step(kit, olga, "TempCardsProcAssign", card, {"Person": [grace.user.email]})
    _, again, proceed = await begun(kit, olga, card, agent)
    assert opened(again, proceed.puk) == own
    assert proceed.new_puk is None
