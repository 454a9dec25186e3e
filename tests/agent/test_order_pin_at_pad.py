"""*Change* and *unblock PIN* with everything typed at the keys of the reader: refused, wrong, torn, then as it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.handlers.pin_setting import receipt_after
from protocol.errors import InlayError
from protocol.messages import ChangePin, PinPolicy, UnblockPin
from protocol.words import Presence
from tests.cards.profiles import METADATA, PROFILES, Profile
from tests.cards.simulated import PIN, PUK, SimulatedCard
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    GUID,
    encoding_agent,
    order,
    personalised,
    put_back,
    undone,
    untouched,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders, Typed

NEW, OTHER = b"135790", b"975310"
TIMED_OUT, CANCELLED, TOO_SHORT, REFUSED = b"\x64\x00", b"\x64\x01", b"\x64\x03", b"\x6b\x80"
TELLING = next(each for each in PROFILES if METADATA in each.yubico)
WAYS = pytest.mark.parametrize("way", ["change", "unblock"])


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        running.windows.answers = [(None, None)]
        yield running


def begin(portal: FakePortal, way: str, where: str = "pad", **changes: Any) -> None:
    known: dict[str, Any] = {
        "card": "card-1",
        "driver": "piv",
        "guid": GUID,
        "label": "Card 7",
        "pin_policy": PinPolicy(),
        "where": where,
    }
    portal.operation = (
        ChangePin(**known | changes) if way == "change" else UnblockPin(**known | {"puk": "typed"} | changes)
    )


def right(way: str) -> bytes:
    return b" ".join((PIN if way == "change" else PUK, NEW, NEW))


def wrong(way: str) -> bytes:
    return b" ".join((b"000000" if way == "change" else b"00000000", NEW, NEW))


def telling() -> SimulatedCard:
    """A card that tells how many tries are left of its PUK, too."""
    return personalised(TELLING)


def has(card: SimulatedCard, pin: bytes) -> bool:
    return card.pin == pin.ljust(8, b"\xff")


@WAYS
async def test_a_reader_without_keys_is_refused_where_it_has_to_be_typed_there(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str
) -> None:
    readers.put(personalised())
    begin(portal, way)
    assert await order(agent, portal) == "pad_missing"
    assert (await undone(portal)).changing == 0
    assert untouched(readers)


@pytest.mark.parametrize(
    ("way", "changes"),
    [
        ("unblock", {"puk": "escrow"}),
        ("unblock", {"pin_policy": PinPolicy(max_length=6)}),
        ("change", {"pin_policy": PinPolicy(upper=Presence.REQUIRED)}),
        ("unblock", {"driver": "pkcs11", "puk": "escrow"}),
        ("change", {"driver": "pkcs11", "pin_policy": PinPolicy(digits=Presence.DISALLOWED)}),
        ("change", {"driver": "virtual"}),
    ],
)
async def test_what_nobody_could_type_at_a_reader_is_refused_before_anything(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str, changes: dict[str, Any]
) -> None:
    readers.put(personalised())
    readers.pads["One"] = []
    begin(portal, way, **changes)
    assert await order(agent, portal) == "encoding_unsupported"
    assert readers.trace == []


@WAYS
@pytest.mark.parametrize(
    ("typed", "code"),
    [([CANCELLED], "pad_cancelled"), ([TIMED_OUT] * 4, "pad_timeout"), ([REFUSED], "pad_refused")],
)
async def test_what_ends_at_the_pad_changes_nothing_and_spends_no_try(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    way: str,
    typed: list[Typed],
    code: str,
) -> None:
    card = personalised()
    readers.put(card)
    readers.pads["One"] = list(typed)
    begin(portal, way)
    assert await order(agent, portal) == code
    assert readers.pads["One"] == []
    assert untouched(readers)
    assert (card.pin_left, card.puk_left) == (card.profile.pin_tries, card.profile.puk_tries)


@WAYS
async def test_blocked_at_the_pad_ends_it_and_is_not_asked_for_again(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str
) -> None:
    card = telling()
    readers.put(card)
    tries = card.profile.pin_tries if way == "change" else card.profile.puk_tries
    readers.pads["One"] = [wrong(way)] * tries
    begin(portal, way)
    code = "card_pin_blocked" if way == "change" else "card_puk_blocked"
    assert await order(agent, portal) == code
    assert await order(agent, portal, OTHER_CODE) == code
    assert has(card, PIN)


@pytest.mark.parametrize(
    ("way", "profile", "first"),
    [
        ("change", PROFILES[0], "Type the old PIN"),
        ("unblock", PROFILES[0], "The card doesn't tell how many tries are left. Type the PUK"),
        ("unblock", TELLING, "3 tries are left. Type the PUK"),
    ],
)
async def test_wrong_too_short_or_not_repeated_it_is_asked_again_with_a_warning_before_the_last_tries(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str, profile: Profile, first: str
) -> None:
    card = personalised(profile)
    readers.put(card)
    differs = right(way).removesuffix(NEW) + OTHER
    readers.pads["One"] = [wrong(way), TOO_SHORT, differs, wrong(way), right(way)]
    begin(portal, way)
    assert await order(agent, portal) == "finished"
    questions = [text for text in window_of(agent).texts if "at the keys" in text]
    for words, text in zip((first, "is wrong", "too short", "differ", "last try"), questions, strict=True):
        assert words in text
    assert all("2 tries are left" in text for text in questions[1:4])
    assert has(card, NEW)
    assert (card.pin_left, card.puk_left) == (card.profile.pin_tries, card.profile.puk_tries)
    assert [given.known or given.pin for given in window_of(agent).given] == [None]


@pytest.mark.parametrize("happens", ["before", "after"])
async def test_torn_out_while_it_is_typed_it_is_said_that_the_pin_may_be_either(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, happens: str
) -> None:
    card = personalised()
    readers.put(card)
    put_back(readers, card)
    readers.pads["One"] = [right("change"), right("change")]
    readers.tear = lambda _number, apdu: happens if apdu[1] == 0x24 else None
    begin(portal, "change")
    assert await order(agent, portal) == "card_pin_unknown"
    assert len(readers.pads["One"]) == 1
    assert has(card, NEW if happens == "after" else PIN)


async def test_torn_out_before_it_was_unblocked_it_is_asked_again_and_told_why(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    card = telling()
    card.pin_left = 0
    readers.put(card)
    put_back(readers, card)
    readers.pads["One"] = [right("unblock"), right("unblock")]
    torn: list[int] = []

    def tear(number: int, apdu: bytes) -> str | None:
        if torn or apdu[1] != 0x2C:
            return None
        torn.append(number)
        return "before"

    readers.tear = tear
    begin(portal, "unblock")
    assert await order(agent, portal) == "finished"
    assert any("still blocked" in text for text in window_of(agent).texts)
    assert has(card, NEW)


async def test_killed_while_it_was_typed_it_is_not_known_and_after_a_refusal_nothing_was_changed() -> None:
    begun = [("set pin by PIN", "before")]
    with pytest.raises(InlayError) as caught:
        await receipt_after(GUID, begun)
    assert caught.value.code == "card_pin_unknown"
    refused = [*begun, ("pin refused", "before"), ("pin refused", "after")]
    assert await receipt_after(GUID, refused) is None


@pytest.mark.parametrize(("way", "escrowed"), [("change", False), ("unblock", False), ("unblock", True)])
@pytest.mark.parametrize("pad", [None, [REFUSED]])
async def test_where_the_reader_cant_ask_the_window_does_if_the_order_lets_it(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    way: str,
    escrowed: bool,
    pad: list[Typed] | None,
) -> None:
    card = personalised()
    readers.put(card)
    if pad is not None:
        readers.pads["One"] = list(pad)
    begin(portal, way, "auto", **({"puk": "escrow"} if escrowed else {}))
    known = None if escrowed else PIN if way == "change" else PUK
    agent.windows.answers = [(None, None), (known, NEW)]
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    assert has(card, NEW)


@WAYS
async def test_where_the_reader_can_ask_the_window_never_does(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str
) -> None:
    card = personalised()
    readers.put(card)
    readers.pads["One"] = [right(way)]
    begin(portal, way, "auto")
    assert await order(agent, portal) == "finished", portal.orders[CODE].undone
    assert len(window_of(agent).asked) == 1
    assert has(card, NEW)
