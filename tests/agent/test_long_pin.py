"""PINs over eight characters: worked out for the card, never cut, and of no use without the device secret."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.keys_system import DeviceSecret, Level
from agent.long_pin import card_pin
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore
from protocol.messages import PinPolicy, StorageLevel
from tests.support.agent_parts import CODE, AgentParts
from tests.support.fake_portal import FakePortal

SECRET = DeviceSecret(b"s" * 32, Level.FILE)
OTHER = DeviceSecret(b"t" * 32, Level.FILE)
LONG = b"correct horse!1"
PINS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=6, max_size=15).map(str.encode)


def _verify(card: VirtualCard, pin: bytes) -> bytes:
    card.transmit(bytes.fromhex("00A4040005A00000030800"))
    return card.transmit(bytes.fromhex("0020008008") + pin.ljust(8, b"\xff"))


def test_another_secret_card_or_character_gives_another_pin() -> None:
    found = {
        bytes(card_pin(secret, card, bytearray(pin)))
        for secret, card, pin in (
            (SECRET, "a", LONG),
            (OTHER, "a", LONG),
            (SECRET, "b", LONG),
            (SECRET, "a", LONG[:-1]),
            (SECRET, "a", LONG[:-1] + b"2"),
        )
    }
    assert len(found) == 5


@given(PINS)
def test_a_pin_that_fits_stays_and_a_longer_one_becomes_eight_printable_bytes(pin: bytes) -> None:
    held = card_pin(SECRET, "card", bytearray(pin))
    assert held == card_pin(SECRET, "card", bytearray(pin))
    if len(pin) <= 8:
        assert held == pin
    else:
        assert len(held) == 8
        assert all(0x21 <= byte <= 0x7E for byte in held)
        assert held != pin[:8]


async def test_a_card_with_a_long_pin_is_made_and_its_first_eight_characters_open_nothing(
    agent: AgentParts, portal: FakePortal
) -> None:
    portal.parameters = {"pin_policy": PinPolicy(min_length=9, max_length=15, agent_only=True)}
    agent.windows.answer = LONG
    await agent.submit(portal).wait()
    assert portal.orders[CODE].receipt is not None
    secret = agent.device.secret(StorageLevel.FILE)
    card = VirtualCard.load(CardStore(agent.card_files()[0].parent, secret), agent.card_files()[0].stem)
    assert _verify(card, LONG[:8]).hex() == "63c2"
    assert _verify(card, bytes(card_pin(secret, card.card_id, bytearray(LONG)))).hex() == "9000"
