"""*Verify PIN*, *authenticate* and *sign* with the PIN at the reader's keys: refused, wrong, then as it should go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.messages import Authenticate, Sign, VerifyPin
from tests.agent.test_order_authenticate_sign import CHALLENGE, DIGEST, check
from tests.cards.simulated import SimulatedCard
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts
from tests.support.fake_order import AUTHENTICATION, SIGNATURE
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import (
    FRESH,
    NEW,
    WRONG,
    encoding_agent,
    first_encoding,
    order,
    personalised,
    window_of,
)
from tests.support.simulated_readers import SimulatedReaders, Typed

CANCELLED, REFUSED = b"\x64\x01", b"\x6b\x80"
WAYS = pytest.mark.parametrize("way", ["verify", "authenticate", "sign"])


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    """An agent in whose first reader is a card with keys to log in and sign."""
    async with encoding_agent(tmp_path / "home", readers, portal) as running:
        readers.put(personalised())
        first_encoding(portal, AUTHENTICATION, SIGNATURE)
        running.windows.answers = [(None, NEW)]
        assert await order(running, portal) == "finished"
        readers.trace.clear()
        running.windows.answers = [(None, None)]
        yield running


def begin(portal: FakePortal, way: str, where: str, **changes: Any) -> None:
    known: dict[str, Any] = {
        "card": "card-1",
        "driver": "piv",
        "guid": FRESH,
        "label": "Card 7",
        "where": where,
    }
    match way:
        case "verify":
            portal.operation = VerifyPin(**known)
        case "authenticate":
            portal.operation = Authenticate(**known | {"challenge": CHALLENGE} | changes)
        case _:
            portal.operation = Sign(**known | {"document": "contract.pdf", "digest": DIGEST} | changes)


def the_card(readers: SimulatedReaders) -> SimulatedCard:
    return readers.card_in("One")


@WAYS
async def test_a_reader_without_keys_is_refused_and_the_window_never_asks(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str
) -> None:
    begin(portal, way, "pad")
    assert await order(agent, portal, OTHER_CODE) == "pad_missing"
    assert len(window_of(agent).asked) == 1
    assert not any(apdu[1] == 0x20 and len(apdu) > 5 for apdu in readers.trace)


@pytest.mark.parametrize("way", ["authenticate", "sign"])
async def test_of_a_virtual_card_it_is_refused_before_anything(
    agent: AgentParts, portal: FakePortal, way: str
) -> None:
    opened = len(agent.windows.opened)
    begin(portal, way, "pad", driver="virtual")
    assert await order(agent, portal, OTHER_CODE) == "encoding_unsupported"
    assert [window.asked for window in agent.windows.opened[opened:]] in ([], [[]])


@WAYS
async def test_cancelled_at_the_pad_it_ends_and_spends_no_try(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str
) -> None:
    readers.pads["One"] = [CANCELLED]
    begin(portal, way, "pad")
    assert await order(agent, portal, OTHER_CODE) == "pad_cancelled"
    assert the_card(readers).pin_left == the_card(readers).profile.pin_tries


@WAYS
@pytest.mark.parametrize("pad", [None, [REFUSED]])
async def test_where_the_reader_cant_ask_the_window_does_if_the_order_lets_it(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str, pad: list[Typed] | None
) -> None:
    if pad is not None:
        readers.pads["One"] = list(pad)
    begin(portal, way, "auto")
    agent.windows.answers = [(None, None), (NEW, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished", portal.orders[OTHER_CODE].undone
    assert len(window_of(agent).asked) == 2


@WAYS
@pytest.mark.parametrize("where", ["pad", "auto"])
async def test_typed_at_the_pad_alone_a_wrong_one_is_asked_for_again_there(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str, where: str
) -> None:
    readers.pads["One"] = [WRONG, NEW, NEW]  # the signature key may want it once more
    begin(portal, way, where)
    assert await order(agent, portal, OTHER_CODE) == "finished", portal.orders[OTHER_CODE].undone
    assert any("The PIN is wrong. 2 tries are left" in text for text in window_of(agent).texts)
    assert len(window_of(agent).asked) == 1
    assert the_card(readers).pin_left == the_card(readers).profile.pin_tries
    receipt = portal.orders[OTHER_CODE].receipt
    assert receipt is not None
    if way == "sign":
        assert receipt.signature is not None
        check(receipt.signature, DIGEST)
    assert portal.orders[CODE].undone is None


@WAYS
async def test_in_the_window_it_is_where_the_order_says_so(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders, way: str
) -> None:
    readers.pads["One"] = [NEW, NEW]
    begin(portal, way, "window")
    agent.windows.answers = [(None, None), (NEW, None)]
    assert await order(agent, portal, OTHER_CODE) == "finished", portal.orders[OTHER_CODE].undone
    assert len(readers.pads["One"]) == 2
