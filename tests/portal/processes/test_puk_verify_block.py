"""*Check PIN*, *Change PUK* and *Block card*: whose, when, what isn't accepted, then as it should go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.errors import FieldErrors, Forbidden, NotFound, WrongState
from portal.model.states import ProcessState, UserState
from portal.processes.block_card import BlockCardInReader
from portal.processes.change_puk import ChangeCardPuk
from portal.processes.lock_temporary_card import LockTemporaryCard
from portal.processes.verify_pin import VerifyCardPin
from portal.store.tables import User
from portal.views import ObjectRef
from protocol.errors import InlayError
from protocol.messages import (
    BlockCard,
    ChangePuk,
    Changing,
    ErrorData,
    Finished,
    Proceed,
    Receipt,
    Undo,
    Undone,
    VerifyPin,
)
from tests.portal.processes.test_puks import kept, opened
from tests.portal.processes.test_unblock_change_pin import actions
from tests.support.databases import BACKENDS
from tests.support.extended_cards import ada, assigned, carried_out, encoded, managed, olga, row, step

if TYPE_CHECKING:
    from portal.views import ProcessView, Session
    from tests.support.portal_kit import Kit
    from tests.support.software_agent import SoftwareAgent

__all__ = ["ada", "olga"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


async def begun(
    kit: Kit, who: Session, name: str, card: str, puk: str = "portal"
) -> tuple[ProcessView, SoftwareAgent, Proceed]:
    """An order that a device has claimed and agreed to; bound by its number."""
    view = await step(kit, who, name, card, {"PUK": [puk]} if name == ChangeCardPuk.name else {})
    code = await kit.services.new_code(who, view.id)
    agent = await kit.agent()
    await agent.claim(code.code)
    assert agent.order is not None
    assert agent.order.binding == "number"
    await agent.consent(number="417")
    await kit.bind(who, view.id, "417")
    proceed = await agent.hear()
    assert isinstance(proceed, Proceed)
    agent.card.guid = (await row(kit, card)).guid
    return view, agent, proceed


async def closed(kit: Kit, who: Session, view: ProcessView) -> dict[str, str]:
    """The process, seen to its end; its facts."""
    view = await kit.services.process(who, view.id)
    assert (await kit.services.next(who, view.id, view.version)).state is ProcessState.FINISHED
    return dict(view.facts)


async def test_each_is_for_whom_it_is_for_and_for_cards_in_their_states(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    ref = ObjectRef("temporary_card", card)
    for who, name in ((ada, VerifyCardPin.name), (olga, ChangeCardPuk.name)):
        with pytest.raises(InlayError) as caught:
            await kit.services.start_process(who, name, ref)
        assert caught.value.code == "card_not_encoded"
    await encoded(kit, olga, card)
    for name in (ChangeCardPuk.name, BlockCardInReader.name):
        with pytest.raises((Forbidden, NotFound)):
            await kit.services.start_process(ada, name, ref)
    with pytest.raises(NotFound):
        await kit.services.start_process(await kit.person("eve@example.org"), VerifyCardPin.name, ref)
    with pytest.raises(WrongState):  # in use: nobody blocks it before it is Locked
        await kit.services.start_process(olga, BlockCardInReader.name, ref)


async def test_a_locked_card_that_was_never_encoded_is_not_blocked(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await step(kit, olga, LockTemporaryCard.name, card, {"Reason": ["lost"]})
    with pytest.raises(InlayError) as caught:
        await kit.services.start_process(olga, BlockCardInReader.name, ObjectRef("temporary_card", card))
    assert caught.value.code == "card_not_encoded"


async def test_a_receipt_of_another_card_or_of_a_puk_nobody_asked_for_is_refused(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    for guid, replaced in (("ab" * 16, False), ((await row(kit, card)).guid, True)):
        _, agent, _ = await begun(kit, ada, VerifyCardPin.name, card)
        await agent.say(Receipt(guid=guid, puk_replaced=replaced))
        undo = await agent.hear()
        assert isinstance(undo, Undo)
        assert undo.error.error == "params_invalid"
        await agent.say(Undone(error=undo.error))
        await carried_out(kit, agent)


async def test_the_holder_sees_that_the_pin_is_right(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    view, agent, proceed = await begun(kit, ada, VerifyCardPin.name, card)
    assert agent.order is not None
    assert isinstance(agent.order.parameters, VerifyPin)
    assert proceed == Proceed()
    await agent.say(Receipt(guid=agent.card.guid))
    assert isinstance(await agent.hear(), Finished)
    assert (await closed(kit, ada, view))["Result"] == "The PIN is right."
    assert (await actions(kit, card)).count("card.pin_verified") == 1


async def test_a_locked_card_is_blocked_whatever_became_of_its_holder(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    await step(kit, olga, LockTemporaryCard.name, card, {"Reason": ["brought back"]})
    async with kit.database.write() as tx:
        (await tx.get_one(User, ada.user.id)).state = UserState.LOCKED.value
    view, agent, proceed = await begun(kit, olga, BlockCardInReader.name, card)
    assert agent.order is not None
    assert isinstance(agent.order.parameters, BlockCard)
    assert proceed == Proceed()
    await agent.say(Receipt(guid=agent.card.guid))
    assert isinstance(await agent.hear(), Finished)
    assert "takes no PIN" in (await closed(kit, olga, view))["Result"]
    assert (await actions(kit, card)).count("card.blocked") == 1


@pytest.mark.parametrize(
    ("puk", "code"),
    [
        ("portal", "card_puk_other"),
        ("portal", "card_puk_blocked"),
        ("typed", "card_puk_wrong"),
        ("typed", "card_puk_blocked"),
    ],
)
async def test_a_puk_that_the_card_has_refused_is_no_change_and_leaves_nothing_unsure(
    kit: Kit, olga: Session, ada: Session, puk: str, code: str
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    before = await kept(kit, card)
    _, agent, first = await begun(kit, olga, ChangeCardPuk.name, card, puk)
    await agent.say(Changing())
    await agent.say(Undone(error=ErrorData(error=code)))
    await carried_out(kit, agent)
    assert not (await managed(kit, card)).puk_unsure
    assert await kept(kit, card) == before
    assert not {"card.puk_changed", "card.puk_kept"} & set(await actions(kit, card))
    _, again, second = await begun(kit, olga, ChangeCardPuk.name, card, "typed")
    assert not second.puk_unsure
    assert opened(again, second.new_puk) == opened(agent, first.new_puk)


async def test_a_card_that_has_refused_both_ends_what_was_unsure(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    for code, unsure in (("pcsc_card_removed", True), ("card_puk_blocked", True), ("card_puk_other", False)):
        _, agent, _ = await begun(kit, olga, ChangeCardPuk.name, card)
        await agent.say(Changing())
        await agent.say(Undone(error=ErrorData(error=code)))
        await carried_out(kit, agent)
        assert (await managed(kit, card)).puk_unsure == unsure


@pytest.mark.parametrize("form", [{}, {"PUK": [""]}, {"PUK": ["12345678"]}])
async def test_who_has_the_puk_is_one_of_two_words_and_never_the_puk(
    kit: Kit, olga: Session, ada: Session, form: dict[str, list[str]]
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    with pytest.raises(FieldErrors) as caught:
        await step(kit, olga, ChangeCardPuk.name, card, form)
    assert list(caught.value.errors) == ["PUK"]
    assert "12345678" not in str(caught.value.errors)


async def test_a_card_that_has_refused_the_portals_puk_is_not_told_it_again_until_it_has_another(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    _, agent, _ = await begun(kit, olga, ChangeCardPuk.name, card)
    await agent.say(Undone(error=ErrorData(error="card_puk_other")))
    await carried_out(kit, agent)
    with pytest.raises(FieldErrors) as caught:
        await step(kit, olga, ChangeCardPuk.name, card, {"PUK": ["portal"]})
    assert "costs a try" in caught.value.errors["PUK"]
    view, agent, _ = await begun(kit, olga, ChangeCardPuk.name, card, "typed")
    await agent.say(Changing())
    await agent.say(Receipt(guid=agent.card.guid, puk_replaced=True))
    assert isinstance(await agent.hear(), Finished)
    await closed(kit, olga, view)
    _, agent, proceed = await begun(kit, olga, ChangeCardPuk.name, card)
    assert opened(agent, proceed.puk) == await kept(kit, card)


async def test_a_typed_puk_is_the_persons_and_the_portal_keeps_the_new_one(
    kit: Kit, olga: Session, ada: Session
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    view, agent, proceed = await begun(kit, olga, ChangeCardPuk.name, card, "typed")
    assert agent.order is not None
    wanted = agent.order.parameters
    assert isinstance(wanted, ChangePuk)
    assert (wanted.puk, wanted.driver, proceed.puk) == ("typed", "piv", None)
    assert "types it in Inlay's window" in (await kit.services.process(olga, view.id)).facts["PUK of before"]
    await agent.say(Changing())
    await agent.say(Receipt(guid=agent.card.guid, puk_replaced=True))
    assert isinstance(await agent.hear(), Finished)
    assert (await closed(kit, olga, view))["PUK"] == "another one, kept here"
    assert await kept(kit, card) == opened(agent, proceed.new_puk)
    found = await actions(kit, card)
    assert (found.count("card.puk_delivered"), found.count("card.puk_changed")) == (0, 1)


@pytest.mark.parametrize("changing", [False, True])
async def test_after_a_change_without_an_answer_both_puks_are_kept_and_the_next_order_finds_out(
    kit: Kit, olga: Session, ada: Session, changing: bool
) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    before = await kept(kit, card)
    _, agent, first = await begun(kit, olga, ChangeCardPuk.name, card)
    if changing:
        await agent.say(Changing())
    await agent.say(Undone(error=ErrorData(error="pcsc_card_removed")))
    await carried_out(kit, agent)
    assert await kept(kit, card) == before
    view, again, second = await begun(kit, olga, ChangeCardPuk.name, card)
    assert (first.puk_unsure, second.puk_unsure) == (False, changing)
    assert opened(again, second.new_puk) == opened(agent, first.new_puk)
    assert opened(again, second.puk) == opened(agent, first.puk) == (before or b"12345678")
    await again.say(Receipt(guid=again.card.guid, puk_replaced=True))
    assert isinstance(await again.hear(), Finished)
    assert (await closed(kit, olga, view))["PUK"] == "another one, kept here"
    assert await kept(kit, card) == opened(again, second.new_puk)
    state = await managed(kit, card)
    assert (state.pending_puk, state.puk_unsure) == (None, False)
    found = await actions(kit, card)
    assert (found.count("card.puk_changed"), found.count("card.puk_kept")) == (1, 0)


async def test_a_card_that_takes_no_other_puk_keeps_its_own(kit: Kit, olga: Session, ada: Session) -> None:
    card = await assigned(kit, olga, ada)
    await encoded(kit, olga, card)
    before = await kept(kit, card)
    view, agent, _ = await begun(kit, olga, ChangeCardPuk.name, card)
    await agent.say(Receipt(guid=agent.card.guid))
    assert isinstance(await agent.hear(), Finished)
    assert "as it was" in (await closed(kit, olga, view))["PUK"]
    assert await kept(kit, card) == before
    found = await actions(kit, card)
    assert (found.count("card.puk_changed"), found.count("card.puk_kept")) == (0, 1)
