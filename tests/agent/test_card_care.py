"""What the owner may do with a card: refused first, then beside programs that use it, then the way it should go."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from agent.card_ports import KnownCard, the_card
from agent.virtual_card_ports import CardOwner
from agent.vsc import personalise
from agent.vsc.commands import Algorithm
from agent.vsc.store import CardNotSaved
from protocol.errors import InlayError
from protocol.messages import PinPolicy, StorageLevel

if TYPE_CHECKING:
    from pathlib import Path

    from agent.vsc.card import VirtualCard
    from tests.support.agent_parts import AgentParts

PIN, PUK, NEW, WRONG = b"Zq7-91", b"12345678", b"k7mZ42", b"000000"
LONG, OTHER_LONG = b"correct horse", b"battery staple"
LONG_PINS = PinPolicy(min_length=9, max_length=15, agent_only=True)


async def make(
    agent: AgentParts, jti: str = "order-1", pin: bytes = PIN, policy: PinPolicy | None = None
) -> str:
    """An active card with a key; its name."""
    owner = CardOwner("portal.test", jti, "alex@example.org", 1_900_000_000)
    made = await agent.cards.make(
        owner, StorageLevel.FILE, f"Card of {jti}", bytearray(pin), bytearray(PUK), policy
    )
    await made.generate("9A", "P-256")  # type: ignore[arg-type]
    await agent.cards.activate(owner)
    return agent.cards.card_name(owner)


async def refused(agent: AgentParts, name: str, old: bytes, new: bytes = NEW) -> InlayError:
    with pytest.raises(InlayError) as caught:
        await agent.care.change_pin(name, bytearray(old), bytearray(new))
    return caught.value


async def signs(agent: AgentParts, name: str, pin: bytes) -> bool:
    return bool(
        await agent.cards.use(name, lambda card: personalise.sign(card, 0x9A, b"text", bytearray(pin)))
    )


async def test_a_card_that_is_not_there_or_still_being_made_is_refused(agent: AgentParts) -> None:
    assert (await refused(agent, "0" * 32, PIN)).code == "card_unknown"
    owner = CardOwner("portal.test", "order-2", "alex@example.org", 1_900_000_000)
    await agent.cards.make(owner, StorageLevel.FILE, "Card", bytearray(PIN), bytearray(PUK))
    assert (await refused(agent, agent.cards.card_name(owner), PIN)).code == "card_not_active"


async def test_a_wrong_pin_is_told_with_its_tries_and_a_blocked_one_by_its_own_name(
    agent: AgentParts,
) -> None:
    name = await make(agent)
    assert (await refused(agent, name, WRONG)).fields == {"tries": 2}
    assert (await agent.care.standing(name)).pin_tries == 2
    await refused(agent, name, WRONG)
    assert (await refused(agent, name, WRONG)).code == "pin_blocked"
    assert (await refused(agent, name, PIN)).code == "pin_blocked"
    with pytest.raises(InlayError) as caught:
        await agent.care.unblock(name, bytearray(WRONG), bytearray(NEW))
    assert (caught.value.code, caught.value.fields) == ("puk_wrong", {"tries": 2})
    await agent.care.unblock(name, bytearray(PUK), bytearray(NEW))
    assert await signs(agent, name, NEW)


@pytest.mark.parametrize("pin", [b"", b"12345", "12345é".encode()])
async def test_what_no_card_takes_costs_no_try(agent: AgentParts, pin: bytes) -> None:
    name = await make(agent)
    assert (await refused(agent, name, pin)).code == "pin_refused"
    assert (await refused(agent, name, PIN, pin)).code == "pin_refused"
    with pytest.raises(InlayError) as caught:
        await agent.care.unblock(name, bytearray(b"1234567890"), bytearray(NEW))
    assert caught.value.code == "pin_refused"
    standing = await agent.care.standing(name)
    assert (standing.pin_tries, standing.puk_tries) == (3, 3)


async def test_long_pins_stay_long_and_their_rules_are_known(agent: AgentParts) -> None:
    name = await make(agent, pin=LONG, policy=LONG_PINS)
    standing = await agent.care.standing(name)
    assert (standing.rules.min_length, standing.rules.max_length, standing.longest_pin) == (9, 15, 15)
    assert (await refused(agent, name, LONG[:8])).code == "pin_wrong"
    await agent.care.change_pin(name, bytearray(LONG), bytearray(OTHER_LONG))
    assert (await refused(agent, name, LONG)).code == "pin_wrong"
    await agent.care.unblock(name, bytearray(PUK), bytearray(LONG))
    await agent.care.change_pin(name, bytearray(LONG), bytearray(OTHER_LONG))


async def test_the_rules_of_a_card_of_before_are_the_cards_own(agent: AgentParts) -> None:
    standing = await agent.care.standing(await make(agent))
    assert (standing.rules.min_length, standing.rules.max_length, standing.longest_pin) == (6, 8, 15)
    assert standing.made_keys == {"9A"}


async def test_two_changes_at_once_come_one_after_the_other(agent: AgentParts) -> None:
    name = await make(agent)
    done = await asyncio.gather(
        agent.care.change_pin(name, bytearray(PIN), bytearray(NEW)),
        agent.care.change_pin(name, bytearray(PIN), bytearray(b"another")),
        return_exceptions=True,
    )
    assert sorted(getattr(item, "code", "done") for item in done) == ["done", "pin_wrong"]


async def test_one_file_has_one_card_in_memory(agent: AgentParts) -> None:
    """Two objects of one file would undo each other's changes."""
    name = await make(agent)
    agent.cards._cards.clear()  # as after a restart
    found: list[VirtualCard] = await asyncio.gather(
        *(agent.cards.use(name, lambda card: card) for _ in range(3))
    )
    await agent.cards.attend()
    assert {id(card) for card in [*found, agent.cards._cards[name]]} == {id(found[0])}


async def test_a_card_that_was_deleted_does_not_come_back(agent: AgentParts) -> None:
    """Not by a change that waits behind the removal, and not by who still holds the card."""
    name = await make(agent)
    held = await agent.cards.use(name, lambda card: card)
    go_on = threading.Event()
    holding = asyncio.create_task(agent.cards.use(name, lambda _card: go_on.wait(20)))
    await asyncio.sleep(0)
    deleting = asyncio.create_task(agent.cards._in_worker(name, agent.cards._remove, name))
    changing = asyncio.create_task(refused(agent, name, PIN))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(holding, deleting)
    assert (await changing).code == "card_unknown"
    assert held.transmit(bytes.fromhex("00A4040005A000000308"))[-2:] == b"\x90\x00"
    assert held.transmit(bytes.fromhex("0020008008") + WRONG + b"\xff\xff") == b"\x65\x81"
    with pytest.raises(CardNotSaved):
        held.activate()
    assert agent.card_files() == []
    assert await agent.care.known() == []
    await agent.care.delete(name)  # harmless


async def test_a_damaged_card_can_be_deleted_and_others_stay(agent: AgentParts) -> None:
    name, other = await make(agent), await make(agent, "order-2")
    agent.cards._cards.clear()
    _file(agent, name).write_bytes(b"damaged")
    (bad,) = [card for card in await agent.care.known() if card.card == name]
    assert bad.label is None
    assert bad.error is not None
    assert bad.account == "alex@example.org"
    await agent.care.delete(name)
    assert [card.card for card in await agent.care.known()] == [other]


async def test_a_full_disk_leaves_card_and_pin(agent: AgentParts, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await make(agent)

    def refuse(*_arguments: object, **_named: object) -> None:
        raise OSError(30, "read-only")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.unlink", refuse)
        with pytest.raises(InlayError) as caught:
            await agent.care.delete(name)
        assert caught.value.code == "card_write_failed"
    await agent.care.change_pin(name, bytearray(PIN), bytearray(NEW))
    assert await signs(agent, name, NEW)


def _file(agent: AgentParts, name: str) -> Path:
    (path,) = [path for path in agent.card_files() if path.stem == name]
    return path


def test_a_card_is_named_by_serial_guid_label_or_file() -> None:
    cards = [
        KnownCard(str(number) * 32, label, serial, str(number) * 32, True, None, None)
        for number, label, serial in ((1, "Work", "111"), (2, "Home", "222"), (3, "Home", "333"))
    ]
    for name in ("222", "2" * 32):
        assert the_card(cards, name).serial == "222"
    assert the_card(cards, "Work").serial == "111"
    with pytest.raises(InlayError) as caught:
        the_card(cards, "Home")
    assert (caught.value.code, caught.value.fields) == ("card_ambiguous", {"count": 2})
    with pytest.raises(InlayError) as caught:
        the_card(cards, "work")
    assert caught.value.code == "card_unknown"


async def test_a_key_of_the_card_works_with_the_new_pin_alone(agent: AgentParts) -> None:
    name = await make(agent)
    await agent.care.change_pin(name, bytearray(PIN), bytearray(NEW))
    assert await signs(agent, name, NEW)
    with pytest.raises(personalise.CardRefused):
        await signs(agent, name, PIN)
    algorithms = {slot.algorithm for slot in (await agent.cards.use(name, lambda card: card.details())).slots}
    assert algorithms == {Algorithm.P_256.label}
