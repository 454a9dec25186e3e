"""The commands about a card: what the person is asked, told and warned of; wrong, blocked and cancelled first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent.conversation import Conversation
from agent.handlers.registry import PRIVATE
from agent.order_ports import PrivateRequest
from agent.ports import NoDisplay, UserCancelled, UserEnvironment, WindowFailed
from agent.virtual_card_ports import CardOwner
from agent.vsc import personalise
from agent.vsc.commands import Algorithm as CardAlgorithm
from protocol.errors import DecodeError, InlayError
from protocol.messages import Algorithm, PinPolicy, Presence, StorageLevel
from tests.support.virtual_cards import Issuer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.vsc.card import VirtualCard
    from tests.support.agent_parts import AgentParts
    from tests.support.fake_windows import Answer, FakeWindow

PIN, PUK, NEW, WRONG = b"Zq7-91", b"12345678", b"k7mZ42", b"000000"
SCREEN = UserEnvironment({"DISPLAY": ":9"})
DIGITS = PinPolicy(upper=Presence.DISALLOWED, lower=Presence.DISALLOWED, special=Presence.DISALLOWED)


async def make(agent: AgentParts, jti: str = "order-1", policy: PinPolicy | None = None) -> str:
    """An active card with a certificate for a key of its own in 9A, and one for an imported key in 9D."""
    owner = CardOwner("portal.test", jti, "alex@example.org", 1_900_000_000)
    made = await agent.cards.make(
        owner, StorageLevel.FILE, f"Card of {jti}", bytearray(PIN), bytearray(PUK), policy
    )
    await made.generate("9A", Algorithm.P_256)
    await agent.cards.activate(owner)
    name = agent.cards.card_name(owner)

    def certify(card: VirtualCard) -> None:
        der = Issuer().issue(personalise.public_key(card, 0x9A), 0x9A)
        personalise.write_certificate(card, 0x9A, der)

    await agent.cards.use(name, certify)
    return name


async def command(
    agent: AgentParts,
    method: str,
    answers: Sequence[Answer] = (),
    card: str | None = None,
    *,
    close: bool = True,
) -> dict[str, Any]:
    """Carry a command out with what a person types; the person closes the last page."""
    agent.windows.answers = answers
    before = len(agent.windows.opened)
    request = PrivateRequest({"card": card}, SCREEN)
    outcome = await PRIVATE[method](agent.services(), request)
    if isinstance(outcome, dict):
        return outcome
    assert isinstance(outcome, Conversation)
    closing = asyncio.create_task(_close_last_page(agent, before)) if close else None
    try:
        async with asyncio.timeout(20):
            return await outcome.wait()
    finally:
        if closing is not None:
            closing.cancel()


async def _close_last_page(agent: AgentParts, before: int) -> None:
    async with agent.windows.changed:
        await agent.windows.changed.wait_for(lambda: len(agent.windows.opened) > before)
    window = agent.windows.opened[-1]
    async with window.changed:
        await window.changed.wait_for(lambda: window.done is not None or window.error is not None)
    window.closed.set()


async def refused(
    agent: AgentParts, method: str, answers: Sequence[Answer] = (), card: str | None = None
) -> str:
    with pytest.raises(InlayError) as caught:
        await command(agent, method, answers, card)
    return caught.value.code


def warnings(window: FakeWindow) -> list[str | None]:
    return [prompt.warning for prompt in window.asked]


def all_wiped(window: FakeWindow) -> bool:
    secrets = [secret for given in window.given for secret in (given.pin, given.known) if secret is not None]
    return bool(secrets) and not any(any(secret) for secret in secrets)


ASKING = ("cards.change_pin", "cards.unblock", "cards.delete", "cards.window")


@pytest.mark.parametrize("method", ASKING)
async def test_without_a_card_there_is_nothing_to_ask(agent: AgentParts, method: str) -> None:
    assert await refused(agent, method) == "no_card"
    assert agent.windows.opened == []


@pytest.mark.parametrize("method", [*ASKING, "cards.show"])
async def test_another_name_or_another_parameter_is_refused_before_a_window(
    agent: AgentParts, method: str
) -> None:
    await make(agent)
    assert await refused(agent, method, card="4711") == "card_unknown"
    with pytest.raises(DecodeError):
        await PRIVATE[method](agent.services(), PrivateRequest({"card": None, "pin": "123456"}, SCREEN))
    assert agent.windows.opened == []


@pytest.mark.parametrize("method", ASKING[:3])
async def test_without_a_screen_and_a_terminal_it_says_so(agent: AgentParts, method: str) -> None:
    await make(agent)
    agent.windows.refuse = NoDisplay()
    assert await refused(agent, method) == "no_display"


async def test_a_wrong_pin_is_asked_again_with_its_tries_and_warned_of_before_the_last_two(
    agent: AgentParts,
) -> None:
    name = await make(agent)
    answer = await command(agent, "cards.change_pin", [(WRONG, NEW), (WRONG, NEW), (PIN, NEW)])
    window = agent.windows.opened[0]
    first, second, third = warnings(window)
    assert first is None
    assert second is not None
    assert third is not None
    assert second.startswith("The PIN is wrong. 2 tries are left")
    assert third.startswith("The PIN is wrong. This is the last try")
    assert answer["done"] == "The PIN is changed."
    assert all_wiped(window)
    standing = await agent.care.standing(name)
    assert standing.pin_tries == 3
    assert NEW not in agent.everything_written()


async def test_a_card_that_has_lost_tries_elsewhere_warns_at_the_first_question(agent: AgentParts) -> None:
    name = await make(agent)
    for tries in (2, 1):
        with pytest.raises(InlayError):
            await agent.care.change_pin(name, bytearray(WRONG), bytearray(NEW))
        assert await refused(agent, "cards.change_pin", [UserCancelled("consent")]) == "user_cancelled"
        warning = warnings(agent.windows.opened[-1])[0]
        assert warning is not None
        assert {2: "2 tries are left", 1: "This is the last try"}[tries] in warning
        assert (await agent.care.standing(name)).pin_tries == tries  # asking has spent none


async def test_a_pin_that_gets_blocked_says_unblock_and_a_blocked_one_is_not_asked_for(
    agent: AgentParts,
) -> None:
    await make(agent)
    assert await refused(agent, "cards.change_pin", [(WRONG, NEW)] * 3) == "pin_blocked"
    window = agent.windows.opened[0]
    assert window.error is not None
    assert "inlay cards unblock" in window.error.next_step
    assert await refused(agent, "cards.change_pin", [(PIN, NEW)]) == "pin_blocked"
    assert agent.windows.opened[1].asked == []
    await command(agent, "cards.unblock", [(PUK, NEW)])
    await command(agent, "cards.change_pin", [(NEW, PIN)])


async def test_a_puk_that_gets_blocked_says_new_card(agent: AgentParts) -> None:
    await make(agent)
    assert await refused(agent, "cards.unblock", [(WRONG, NEW)] * 3) == "puk_blocked"
    window = agent.windows.opened[0]
    last = warnings(window)[-1]
    assert last is not None
    assert "one more wrong PUK blocks it for good" in last
    assert window.error is not None
    assert "new virtual card" in window.error.next_step
    assert all_wiped(window)


async def test_a_pin_that_breaks_the_cards_rules_is_refused_and_costs_no_try(agent: AgentParts) -> None:
    """The window has checked it; one that sends it all the same is broken."""
    name = await make(agent, policy=DIGITS)
    for method, known in (("cards.change_pin", PIN), ("cards.unblock", PUK)):
        assert await refused(agent, method, [(known, b"abcdef")]) == "window_failed"
        assert await refused(agent, method, [(None, b"123456")]) == "window_failed"
    standing = await agent.care.standing(name)
    assert (standing.pin_tries, standing.puk_tries) == (3, 3)
    assert agent.windows.opened[0].asked[0].pin_policy == standing.rules
    await command(agent, "cards.change_pin", [(PIN, b"246810")])


@pytest.mark.parametrize("method", ASKING[:3])
async def test_cancelled_nothing_is_changed(agent: AgentParts, method: str) -> None:
    name = await make(agent)
    before = agent.card_files()[0].read_bytes()
    assert await refused(agent, method, [UserCancelled("consent")]) == "user_cancelled"
    assert await refused(agent, method, [WindowFailed(1)]) == "window_failed"
    assert agent.card_files()[0].read_bytes() == before
    assert agent.windows.opened[0].error is None
    assert (await agent.care.standing(name)).pin_tries == 3


async def test_a_locked_key_store_is_said_and_not_that_there_is_no_card(
    agent: AgentParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(agent)

    def locked(*_arguments: object) -> None:
        raise InlayError("keystore_locked")

    monkeypatch.setattr(agent.device, "secret_unasked", locked)
    for method in ("cards.change_pin", "cards.unblock"):
        assert await refused(agent, method) == "keystore_locked"
    agent.windows.action = None
    outcome = await PRIVATE["cards.window"](agent.services(), PrivateRequest({}, SCREEN))
    assert isinstance(outcome, Conversation)
    window = await agent.windows.first()
    await window.until("card")
    assert window.sheets[0].actions == ()  # it comes back by itself: nobody is offered to delete it
    outcome.abandon()


async def test_what_is_asked_is_under_way_and_what_is_only_shown_is_not(agent: AgentParts) -> None:
    await make(agent)
    services = agent.services()
    agent.windows.answers = [(PIN, NEW)]
    outcome = await PRIVATE["cards.change_pin"](services, PrivateRequest({}, SCREEN))
    assert isinstance(outcome, Conversation)
    window = await agent.windows.first()
    await window.until("ask")
    await window.until("done")
    assert services.shutdown.stop(now=False) == []
    services.shutdown.asked.clear()
    window.closed.set()
    await outcome.wait()
    agent.windows.answers = []
    outcome = await PRIVATE["cards.delete"](services, PrivateRequest({}, SCREEN))
    assert isinstance(outcome, Conversation)
    async with agent.windows.changed:
        await agent.windows.changed.wait_for(lambda: len(agent.windows.opened) == 2)
    await agent.windows.opened[1].until("ask")
    with pytest.raises(InlayError) as caught:
        services.shutdown.stop(now=False)
    assert (caught.value.code, caught.value.fields) == ("agent_busy", {"what": "“Delete a card”"})
    assert services.shutdown.stop(now=True) == ["“Delete a card”"]
    outcome.abandon()


@pytest.mark.parametrize("method", ASKING[:3])
async def test_a_command_that_goes_takes_its_window_along(agent: AgentParts, method: str) -> None:
    await make(agent)
    outcome = await PRIVATE[method](agent.services(), PrivateRequest({}, SCREEN))
    assert isinstance(outcome, Conversation)
    window = await agent.windows.first()
    await window.until("ask")
    outcome.abandon()
    with pytest.raises(InlayError) as caught:
        await outcome.wait()
    assert caught.value.code == "user_cancelled"
    assert window.closed.is_set()


async def test_of_several_cards_one_is_chosen_or_named(agent: AgentParts) -> None:
    first, second = await make(agent, "order-1"), await make(agent, "order-2")
    agent.windows.choice = 1
    names = [card.card for card in await agent.care.known()]
    await command(agent, "cards.change_pin", [(PIN, NEW)])
    choices = agent.windows.opened[0].choices[0]
    assert [item.card for item in choices] == names
    assert all("alex@example.org" in item.detail for item in choices)
    await agent.care.change_pin(names[1], bytearray(NEW), bytearray(PIN))
    serial = (await agent.care.standing(first)).facts.serial
    answer = await command(agent, "cards.delete", [(None, None)], serial)
    assert answer["card"] == first
    assert agent.windows.opened[1].choices == []
    assert [card.card for card in await agent.care.known()] == [second]


async def test_deleting_says_what_is_lost_and_that_the_portal_is_not_told(agent: AgentParts) -> None:
    await make(agent)
    answer = await command(agent, "cards.delete", [(None, None)])
    (prompt,) = agent.windows.opened[0].asked
    said = " ".join(prompt.consequences)
    assert prompt.typed == "delete"
    assert prompt.pin_policy is None
    assert "Lost: Authentication certificate, CN=Test Authentication" in said
    assert "The portal portal.test is not told" in said
    assert "https://portal.test" in " ".join(answer["notes"])
    assert agent.card_files() == []


async def test_deleting_a_card_that_can_not_be_read_says_why(agent: AgentParts) -> None:
    await make(agent)
    agent.cards._cards.clear()
    agent.card_files()[0].write_bytes(b"damaged")
    for name in (None, agent.card_files()[0].stem):
        assert await refused(agent, "cards.change_pin", card=name) == "card_damaged"
    await command(agent, "cards.delete", [(None, None)])
    (prompt,) = agent.windows.opened[0].asked
    assert "was damaged or changed" in prompt.consequences[0]
    assert agent.card_files() == []


async def test_a_key_without_a_copy_is_named_when_its_card_is_deleted(agent: AgentParts) -> None:
    name = await make(agent)

    def add_encryption(card: VirtualCard) -> None:
        public = personalise.generate(card, 0x9D, CardAlgorithm.P_256)
        personalise.write_certificate(card, 0x9D, Issuer().issue(public, 0x9D))

    await agent.cards.use(name, add_encryption)
    assert await refused(agent, "cards.delete", [UserCancelled("consent")]) == "user_cancelled"
    (prompt,) = agent.windows.opened[0].asked
    assert any("there is no copy of the key" in line for line in prompt.consequences)


async def test_showing_tells_everything_but_secrets(agent: AgentParts) -> None:
    name = await make(agent)
    with pytest.raises(InlayError):
        await agent.care.change_pin(name, bytearray(WRONG), bytearray(NEW))
    (card,) = (await command(agent, "cards.show"))["cards"]
    assert card["pin_tries"] == 2
    assert card["puk_tries"] == 3
    assert card["portal"] == "portal.test"
    assert card["expires"] == "2030-03-17"
    assert [item["slot"] for item in card["certificates"]] == ["9A"]
    assert card == (await command(agent, "cards.show", card=card["guid"]))["cards"][0]


async def test_showing_a_card_in_a_window_offers_what_the_card_would_take(agent: AgentParts) -> None:
    name = await make(agent)
    agent.windows.action = "change-pin"
    answer = await command(agent, "cards.window", [(PIN, NEW)])
    assert answer["done"] == "The PIN is changed."
    (sheet,) = agent.windows.opened[0].sheets
    assert [action for action, _ in sheet.actions] == ["change-pin", "unblock", "delete"]
    for _ in range(3):
        with pytest.raises(InlayError):
            await agent.care.change_pin(name, bytearray(WRONG), bytearray(NEW))
    agent.windows.action = "unblock"
    await command(agent, "cards.window", [(PUK, NEW)])
    (sheet,) = agent.windows.opened[1].sheets
    assert [action for action, _ in sheet.actions] == ["unblock", "delete"]
    assert sheet.warning is not None
    assert "blocked" in sheet.warning
