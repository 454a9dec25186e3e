"""A hostile card in the reader: whatever it answers, the order ends by a cause's name, and the PIN goes out once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa, utils

from agent import card_thread
from agent.card_signature import card_signature, certificate_in
from agent.pcsc import piv_objects
from portal.ca.x509 import facts
from protocol.errors import InlayError
from protocol.messages import Authenticate, Binding, ReadCard
from tests.agent.test_order_authenticate_sign import CHALLENGE
from tests.cards.profiles import PROFILES
from tests.cards.simulated import FACTORY_KEY, PUK, Apdu, SimulatedCard, tlv
from tests.support.agent_parts import CODE, OTHER_CODE, AgentParts, running_agent
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.physical_orders import FRESH, first_encoding, order, personalised, undone
from tests.support.simulated_readers import SimulatedReaders
from tests.support.strange_certificates import STRANGE, certificate, odd_name

PIN = b"135790"
Lie = Callable[[Apdu, bytes], bytes]
_VERIFY, _AUTHENTICATE, _GET_DATA = 0x20, 0x87, 0xCB


@pytest.fixture
async def agent(tmp_path: Path, readers: SimulatedReaders, portal: FakePortal) -> AsyncIterator[AgentParts]:
    async with running_agent(tmp_path / "home", readers) as running:
        running.trust_portal(portal)
        portal.binding, portal.management_keys, portal.puk = Binding.NONE, [FACTORY_KEY], PUK
        yield running


def certified(der: bytes) -> bytes:
    """As an answer to GET DATA."""
    return tlv("53", piv_objects.certificate_object(der))


def deep(levels: int) -> bytes:
    """Data objects in one another."""
    found = b""
    for _ in range(levels):
        found = tlv("7C", found)
    return found


def signature_of(size: int) -> bytes:
    return tlv("7C", tlv("82", bytes(size)))


OVER = 1 << 300
"""More than a number of P-256 can be."""
LIES: dict[str, tuple[int, bytes]] = {
    "nothing": (_AUTHENTICATE, b""),
    "no TLV": (_AUTHENTICATE, b"\x7c\x83\xff"),
    "nothing in it": (_AUTHENTICATE, tlv("7C", tlv("82", b""))),
    "one in another": (_AUTHENTICATE, deep(2000)),
    "no signature": (_AUTHENTICATE, signature_of(72)),
    "a long one": (_AUTHENTICATE, signature_of(60_000)),
    "numbers too large": (_AUTHENTICATE, tlv("7C", tlv("82", utils.encode_dss_signature(OVER, OVER)))),
    "no certificate": (_GET_DATA, tlv("53", b"\x70\x82\x10\x00")),
    "a certificate of a key of odd length": (_GET_DATA, b""),
    **{make.__name__: (_GET_DATA, certified(make())) for make in STRANGE if make is not odd_name},
}


async def encoded(agent: AgentParts, portal: FakePortal, readers: SimulatedReaders) -> SimulatedCard:
    """A card with a key to log in with; the next order is about it."""
    card = personalised(PROFILES[0])
    readers.put(card)
    first_encoding(portal, AUTHENTICATION)
    agent.windows.answers = [(None, PIN)]
    assert await order(agent, portal, CODE) == "finished"
    portal.operation = Authenticate(
        card="card-1", driver="piv", guid=FRESH, label="Card 7", challenge=CHALLENGE
    )
    return card


def lying(card: SimulatedCard, monkeypatch: pytest.MonkeyPatch, lie: Lie) -> None:
    """From now on the card answers what this makes of its true answers."""
    true = card._do
    monkeypatch.setattr(card, "_do", lambda command: lie(command, true(command)))


@pytest.mark.parametrize("name", LIES)
async def test_whatever_it_answers_the_cause_is_named_and_the_pin_went_out_once(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    card = await encoded(agent, portal, readers)
    instruction, answer = LIES[name]
    if name == "a certificate of a key of odd length":
        answer = certified(certificate(rsa.generate_private_key(65537, 2304).public_key()))

    def lie(command: Apdu, true: bytes) -> bytes:
        certificates = command.ins == _GET_DATA and command.data == bytes.fromhex("5C035FC105")
        uses = command.ins != _GET_DATA and command.p2 == 0x9A
        return answer if command.ins == instruction and (uses or certificates) else true

    card.commands.clear()
    lying(card, monkeypatch, lie)
    agent.windows.answers = [(None, None), (PIN, None)]
    ended = await order(agent, portal, OTHER_CODE)
    assert ended in {"card_answer_malformed", "card_key_missing"}
    told = (await undone(portal, OTHER_CODE)).undone
    assert told is not None
    assert told.error == ended
    assert sum(command[1] == _VERIFY and len(command) > 5 for command in card.commands) <= 1
    assert card.pin_left == card.profile.pin_tries


@pytest.mark.parametrize("way", ["the person cancels", "the agent ends"])
async def test_one_that_never_answers_keeps_neither_person_nor_agent(
    agent: AgentParts,
    portal: FakePortal,
    readers: SimulatedReaders,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """It asks for more time without end while its key is used."""
    monkeypatch.setattr(card_thread, "LEFT_SECONDS", 0.2)
    card = await encoded(agent, portal, readers)
    reached, free = threading.Event(), threading.Event()

    def lie(command: Apdu, true: bytes) -> bytes:
        if command.ins == _AUTHENTICATE:
            reached.set()
            free.wait(60)
        return true

    lying(card, monkeypatch, lie)
    agent.windows.answers = [(None, None), (PIN, None)]
    ending = asyncio.create_task(order(agent, portal, OTHER_CODE))
    try:
        assert await asyncio.to_thread(reached.wait, 20)
        async with asyncio.timeout(20):
            if way == "the person cancels":
                await agent.windows.opened[-1].close_by_person()
                assert await ending == "user_cancelled"
            else:
                await agent.desk.close()
                assert await ending == "order_interrupted"
        assert not free.is_set()
    finally:
        free.set()


async def test_a_packed_certificate_that_grows_is_no_certificate(
    agent: AgentParts, portal: FakePortal, readers: SimulatedReaders
) -> None:
    """A few bytes that would be a million: read by who only looks what card it is."""
    card = personalised(PROFILES[0])
    packed = piv_objects.certificate_object(bytes(1_000_000), packed=True)
    assert len(packed) < 2_000
    card.objects[0x5FC105] = packed
    readers.put(card)
    portal.operation = ReadCard(driver="piv")
    agent.windows.answers = [(None, None)]
    assert await order(agent, portal) == "finished"
    receipt = portal.orders[CODE].receipt
    assert receipt is not None
    assert receipt.reading is not None
    assert (receipt.reading.omitted, receipt.reading.certificates) == (1, [])


# --- the parts


@pytest.mark.parametrize("make", STRANGE)
def test_what_cant_be_read_is_one_cause_at_agent_and_portal(make: Callable[[], bytes]) -> None:
    der = make()
    with pytest.raises(ValueError):  # noqa: PT011 - that it is no other exception is the point
        facts(der)
    if make is not odd_name:  # its key can be read, and nobody asks for the name
        with pytest.raises(InlayError) as caught:
            certificate_in({"9A": der}, "9A")
        assert caught.value.code == "card_key_missing"


@pytest.mark.parametrize(
    "signature", [b"", b"\x30\x00", bytes(255), utils.encode_dss_signature(OVER, 1)], ids=len
)
def test_what_no_key_signs_isnt_told_the_portal(signature: bytes) -> None:
    public = rsa.generate_private_key(65537, 2048).public_key()
    for der in (certificate(), certificate(public)):
        with pytest.raises(InlayError) as caught:
            card_signature(der, signature)
        assert caught.value.code == "card_answer_malformed"
