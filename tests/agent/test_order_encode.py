"""The order *encode card*: refused, disturbed, then the way it should go; the card is as it was, or the new one."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from agent.durable import write_durably
from agent.ports import UserCancelled
from agent.vsc import store
from protocol.errors import InlayError
from protocol.messages import (
    Binding,
    CardStep,
    EncodeCard,
    PinEntry,
    PinPolicy,
)
from tests.support.agent_parts import OTHER_CODE, AgentParts
from tests.support.encode_orders import (
    KEPT,
    RETIRED,
    WRONG,
    all_wiped,
    card_to_encode,
    chuid_day,
    contents,
    copies,
    encode,
    last_window,
    order,
)
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.fake_windows import PIN
from tests.support.processes import wait_until


@pytest.fixture
async def card(agent: AgentParts, portal: FakePortal) -> str:
    """A card with three keys; its file's name. The next order gives it a new 9A."""
    return await card_to_encode(agent, portal)


# --- refused


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"guid": "ab" * 16}, "card_elsewhere"),
        ({"driver": "piv"}, "order_malformed"),
        ({"steps": [CardStep.INITIALISE]}, "encoding_unsupported"),
        ({"pin": PinEntry(kind="new")}, "encoding_unsupported"),
        ({"steps": [CardStep.SET_PIN]}, "encoding_unsupported"),
        ({"steps": [CardStep.SET_PIN], "pin": PinEntry(kind="new")}, "encoding_unsupported"),
        ({"pin": PinEntry(kind="verify", policy=PinPolicy())}, "encoding_unsupported"),
        ({"pin": PinEntry(kind="verify", where="pad")}, "encoding_unsupported"),
        ({"keys": [AUTHENTICATION, AUTHENTICATION]}, "order_malformed"),
    ],
)
async def test_what_cannot_be_done_is_refused_before_anything_is_asked(
    agent: AgentParts, portal: FakePortal, card: str, changes: dict[str, Any], code: str
) -> None:
    before = await contents(agent, card)
    assert portal.operation is not None
    portal.operation = msgspec.structs.replace(portal.operation, **changes)
    assert await order(agent, portal) == code
    at = await portal.orders[OTHER_CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.error == code
    assert last_window(agent).asked == [] or agent.windows.opened[-1].given == []
    assert await contents(agent, card) == before
    assert copies(agent) == []


async def test_a_key_that_is_kept_has_no_place_on_a_new_card(agent: AgentParts, portal: FakePortal) -> None:
    portal.keys = [KEPT]
    assert await order(agent, portal) == "order_malformed"
    assert agent.card_files() == []


async def test_a_portal_encodes_only_the_cards_that_it_has_ordered(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    row = agent.journal.get().cards()[card]
    agent.journal.get().add_card(row._replace(portal="other.test"))
    assert await order(agent, portal) == "card_of_other_portal"
    assert last_window(agent).asked == []


async def test_a_wrong_pin_costs_a_try_and_is_asked_again_with_a_warning(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    agent.windows.answers = [(WRONG, None), (WRONG, None), (PIN, None)]
    assert await order(agent, portal) == "finished"
    warnings = [prompt.warning or "" for prompt in last_window(agent).asked]
    assert [word in text for word, text in zip(("", "2 tries", "last try"), warnings, strict=True)] == [
        True
    ] * 3
    assert (await agent.care.standing(card)).pin_tries == 3
    assert all_wiped(last_window(agent))


async def test_a_blocked_pin_ends_the_order_and_no_try_comes_back(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    agent.windows.answers = [(WRONG, None)] * 3
    assert await order(agent, portal) == "pin_blocked"
    assert (await agent.care.standing(card)).pin_tries == 0
    assert copies(agent) == []
    assert all_wiped(last_window(agent))


async def test_no_try_is_spent_before_the_portal_has_agreed(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    portal.number_given = False
    agent.windows.answers = [(WRONG, None)]
    ending = asyncio.create_task(order(agent, portal))
    at = await (await portal.claimed(OTHER_CODE)).until(lambda item: item.consented is not None)
    await portal.undo(at)
    assert await ending == "cancelled_at_portal"
    assert (await agent.care.standing(card)).pin_tries == 3


# --- disturbed: the card is as it was


async def test_cancelled_in_the_window_the_card_is_as_it_was(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    before = await contents(agent, card)
    agent.windows.answers = [UserCancelled("consent")]
    assert await order(agent, portal) == "user_cancelled"
    assert await contents(agent, card) == before
    assert copies(agent) == []


@pytest.mark.parametrize("silent", ["requests", "receipt"])
async def test_undone_by_the_portal_the_card_is_as_it_was(
    agent: AgentParts, portal: FakePortal, card: str, silent: str
) -> None:
    before = await contents(agent, card)
    portal.faults.silent = {silent}
    ending = asyncio.create_task(order(agent, portal))
    said = {"requests": "requests", "receipt": "receipt"}[silent]
    at = await (await portal.claimed(OTHER_CODE)).until(lambda item: getattr(item, said) is not None)
    assert await contents(agent, card) == before  # in use all the time
    await portal.undo(at)
    assert await ending == "cancelled_at_portal"
    assert await contents(agent, card) == before
    assert copies(agent) == []
    assert all_wiped(last_window(agent))


async def test_a_certificate_of_another_key_is_not_written(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    before = await contents(agent, card)
    portal.faults.ca = lambda _der: portal.ca.foreign_certificate()
    assert await order(agent, portal) == "card_check_failed"
    assert await contents(agent, card) == before
    assert copies(agent) == []


async def test_a_disk_that_refuses_the_copy_leaves_the_card(
    agent: AgentParts, portal: FakePortal, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await contents(agent, card)

    def full(path: Path, data: bytes) -> None:
        if agent.cards.copies in path.parents:
            raise OSError(28, "no space")
        write_durably(path, data)

    monkeypatch.setattr(store, "write_durably", full)
    assert await order(agent, portal) == "card_write_failed"
    assert await contents(agent, card) == before
    await asyncio.to_thread(wait_until, lambda: copies(agent) == [], "the copy to be gone")


# --- as it should go


async def test_a_new_key_in_one_slot_leaves_the_others(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    before = await contents(agent, card)
    generation = (await agent.care.standing(card)).facts.generation
    assert await order(agent, portal) == "finished"
    found = await contents(agent, card)
    assert found["9A"] != before["9A"]
    assert (found["9C"], found["9D"]) == (before["9C"], before["9D"])
    at = portal.orders[OTHER_CODE]
    assert at.receipt is not None
    assert generation < at.receipt.generation < (await agent.care.standing(card)).facts.generation
    assert copies(agent) == []
    assert agent.places.shown[-1] == card
    standing = await agent.care.standing(card)
    assert isinstance(portal.operation, EncodeCard)
    last_day = datetime.datetime.fromtimestamp(portal.operation.valid_until, datetime.UTC).date()
    assert standing.expires == last_day
    assert await agent.cards.use(card, chuid_day) == last_day
    assert standing.facts.guid == portal.operation.guid
    window = last_window(agent)
    assert window.details is not None
    assert [line.purpose for line in window.details.certificates] == [
        "authentication",
        "as before",
        "as before",
    ]
    assert all_wiped(window)
    assert PIN not in agent.everything_written()


async def test_certificates_of_a_shorter_life_do_not_shorten_the_cards(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    before = (await agent.care.standing(card)).expires
    encode(portal, (await agent.care.standing(card)).facts.guid, [AUTHENTICATION], valid_until=1_800_000_000)
    assert await order(agent, portal) == "finished"
    assert (await agent.care.standing(card)).expires == before
    assert await agent.cards.use(card, chuid_day) == before


async def test_a_key_that_is_kept_gets_a_new_certificate(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    before = await contents(agent, card)
    guid = (await agent.care.standing(card)).facts.guid
    encode(portal, guid, [KEPT])
    assert await order(agent, portal) == "finished"
    found = await contents(agent, card)
    assert found["9C"] != before["9C"]
    keys = [x509.load_der_x509_certificate(item["9C"]).public_key() for item in (before, found)]
    assert keys[0] == keys[1]


async def test_a_recovered_key_goes_to_a_retired_slot(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    guid = (await agent.care.standing(card)).facts.guid
    encode(portal, guid, [RETIRED])
    before = await contents(agent, card)
    assert await order(agent, portal) == "finished"
    found = await contents(agent, card)
    assert set(found) == {*before, "82"}


NEW = b"k7mZ42"


def with_new_pin(agent: AgentParts, portal: FakePortal, puk: bytes | None) -> None:
    """Have the portal's next order set a new PIN, by this PUK."""
    assert portal.operation is not None
    entry = PinEntry(kind="new", policy=PinPolicy())
    portal.operation = msgspec.structs.replace(portal.operation, steps=[CardStep.SET_PIN], pin=entry)
    portal.puk = puk
    agent.windows.answers = [(None, NEW)]


async def test_a_new_pin_without_a_puk_is_refused(agent: AgentParts, portal: FakePortal, card: str) -> None:
    before = await contents(agent, card)
    with_new_pin(agent, portal, None)
    assert await order(agent, portal) == "params_invalid"
    assert await contents(agent, card) == before


async def test_a_wrong_puk_leaves_the_card_and_its_tries(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    before = await contents(agent, card)
    with_new_pin(agent, portal, b"00000000")
    assert await order(agent, portal) == "puk_wrong"
    assert await contents(agent, card) == before
    assert (await agent.care.standing(card)).puk_tries == 3
    assert copies(agent) == []


async def test_a_new_pin_is_the_cards_once_the_portal_has_confirmed(
    agent: AgentParts, portal: FakePortal, card: str
) -> None:
    before = await contents(agent, card)
    first = next(iter(portal.orders.values()))
    assert first.requests is not None
    assert first.requests.puk is not None
    puk = bytes(portal.escrow.decrypt(first.requests.puk))
    with_new_pin(agent, portal, puk)
    portal.faults.silent = {"receipt"}
    ending = asyncio.create_task(order(agent, portal))
    at = await (await portal.claimed(OTHER_CODE)).until(lambda item: item.receipt is not None)
    assert await contents(agent, card) == before  # with the old PIN
    assert at.receipt is not None
    answer = portal._react(at, at.receipt)
    assert answer is not None
    await portal.say(at, answer)
    assert await ending == "finished"
    await agent.care.check_pin(card, bytearray(NEW))
    with pytest.raises(InlayError) as refused:
        await agent.care.check_pin(card, bytearray(PIN))
    assert refused.value.code == "pin_wrong"
    (given,) = last_window(agent).given
    assert given.pin is not None
    assert not any(given.pin)
    assert NEW not in agent.everything_written()
    assert puk not in agent.everything_written()


async def test_the_number_binds_this_order_too(agent: AgentParts, portal: FakePortal, card: str) -> None:
    portal.binding = Binding.NUMBER
    assert await order(agent, portal) == "finished"
    consented = portal.orders[OTHER_CODE].consented
    assert consented is not None
    assert last_window(agent).number == consented.number
    assert consented.storage is None
