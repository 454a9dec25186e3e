"""The log of what is said to cards: first what must never be in it, then what is."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from agent.pcsc import (
    pin_pad,
    piv_authenticate,
    piv_cipher,
    piv_keys,
    piv_objects,
    piv_pin,
    piv_select,
    traffic,
)
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import PIN, PUK, KeyAlgorithm, ManagementAlgorithm
from agent.pcsc.traffic import Shown
from tests.cards.profiles import AES_192, IMPORT, PROFILES, RSA_2048, SET_KEY, Profile
from tests.cards.simulated import PIN as OLD_PIN
from tests.cards.simulated import PUK as OLD_PUK
from tests.cards.simulated import SimulatedCard, SimulatedLink, factory_key

SECRET = bytes.fromhex("C0FFEEC0FFEE0DDBA11C0DE5")
NEW_PIN, NEW_PUK, NEW_KEY = b"246813", b"87654320", bytes(range(0x40, 0x58))
AID = "A000000308000010000100"


def case(header: str, data: bytes = SECRET, le: str = "") -> bytes:
    return bytes.fromhex(header) + bytes((len(data),)) + data + bytes.fromhex(le)


def extended(header: str, data: bytes, le: str = "0000") -> bytes:
    return bytes.fromhex(header) + b"\0" + len(data).to_bytes(2, "big") + data + bytes.fromhex(le)


@pytest.mark.parametrize(
    "apdu",
    [
        case("00200080"),
        case("00240080"),
        case("002C0080"),
        case("0087039B", b"\x7c\x0e\x82\x0c" + SECRET, "00"),
        case("0087119A", b"\x7c\x10\x82\x00\x81\x0c" + SECRET, "00"),
        case("00FE119A"),
        case("00FFFFFF"),
        case("00DB3FFF", b"\x5c\x03\x5f\xc1\x09" + SECRET),
        case("00DB3FFF", b"\x5c\x02" + SECRET),
        case("00A40400", b"\x4f" * 9 + SECRET),
        case("00CB3FFF", b"\x5c\x0c" + SECRET),
        case("0047009A", b"\xac\x14" + bytes(8) + SECRET),
        case("00770000"),  # an instruction that nobody knows
        case("80A40400"),
        case("10A40400"),
        case("10CB3FFF"),
        extended("00FE079D", SECRET + bytes(300)),
        extended("00200080", SECRET, ""),
        bytes.fromhex("00A40400") + b"\x05" + SECRET,  # a length that isn't one
        bytes.fromhex("00C00000") + SECRET,
        SECRET[:3],
        bytes.fromhex("00A40400") + b"\x00" + SECRET[:1],
    ],
)
def test_no_byte_that_may_be_secret_is_shown(apdu: bytes) -> None:
    shown = Shown()
    assert "C0FFEE" not in shown.command(apdu).replace(" ", "")
    assert SECRET.hex().upper() not in shown.answer(SECRET + b"\x90\x00")
    assert SECRET.hex().upper() not in shown.answer(SECRET)
    assert shown.answer(b"\x63\xc2") == "63C2"


def test_a_chains_last_piece_is_as_secret_as_its_first() -> None:
    """Even where it looks like a command that would be shown alone."""
    for last in (
        case("00CB3FFF", b"\x5c\x01\x7e"),
        case("00A40400", bytes.fromhex(AID)),
        case("00DB3FFF", b"\x5c\x03\x7e\x7e\x7e"),
    ):
        shown = Shown()
        assert shown.command(case("10FE079D")) == "IMPORT KEY 10 FE 07 9D (12 bytes)"
        assert shown.command(last).endswith(" bytes)")
        assert shown.answer(SECRET + b"\x90\x00") == "(12 bytes) 9000"


def test_what_comes_by_get_response_is_as_secret_as_the_command() -> None:
    shown = Shown()
    shown.command(case("0087039B", bytes.fromhex("7C028100"), "00"))
    assert shown.answer(SECRET + b"\x61\x08") == "(12 bytes) 6108"
    assert shown.command(bytes.fromhex("00C0000008")) == "GET RESPONSE 00 C0 00 00"
    assert shown.answer(SECRET[:8] + b"\x90\x00") == "(8 bytes) 9000"


@given(st.binary(max_size=4), st.binary(min_size=6, max_size=300), st.booleans(), st.binary(max_size=40))
def test_whatever_is_said_it_is_shown_or_measured(
    head: bytes, data: bytes, long: bool, answer: bytes
) -> None:
    """Of instructions that aren't in the list no byte behind the header is ever shown, whatever the lengths say."""
    shown = Shown()
    said = shown.command(head + (b"\0\0\x06" if long else b"\x06") + data)
    back = shown.answer(answer)
    if len(head) == 4 and head[1] not in (0xA4, 0xCB, 0x47, 0x87, 0xDB, 0xF7, 0xF8, 0xFD, 0xC0):
        assert data[:6].hex().upper() not in said.partition("(")[0].replace(head.hex(" ").upper(), "")
        assert back.endswith(answer[-2:].hex().upper() if len(answer) >= 2 else " bytes)")
        assert len(answer) <= 2 or back.startswith(f"({len(answer) - 2} bytes)")


# --- with a card


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger(traffic.__name__)
    level = logger.level
    traffic.turn_on()
    caplog.handler.setLevel(0)
    yield caplog
    logger.setLevel(level)


def test_it_is_off_unless_it_was_turned_on(caplog: pytest.LogCaptureFixture) -> None:
    link = SimulatedLink(SimulatedCard(PROFILES[0]))
    assert traffic.watched(link, "Reader") is link
    logging.getLogger(traffic.__name__).setLevel(logging.DEBUG)
    assert traffic.watched(link, "Reader") is link
    logging.getLogger(traffic.__name__).setLevel(logging.NOTSET)
    piv_select.select(CardConnection(link, "Reader"))
    assert not caplog.records


def test_turning_it_on_is_said_loudly(logged: pytest.LogCaptureFixture) -> None:
    [record] = logged.get_records("setup")
    assert (record.levelno, "LOGGED" in record.getMessage()) == (logging.WARNING, True)


def everything(card: CardConnection, profile: Profile) -> list[bytes]:
    """All that is done to cards; the secrets that went."""
    piv_select.select(card)
    algorithm = piv_select.management_algorithms(card)[0]
    question = piv_authenticate.ask(card, algorithm, mutual=profile.mutual)
    proof = piv_cipher.answer(factory_key(algorithm), question)
    piv_authenticate.prove(card, question, proof)
    secrets = [factory_key(algorithm), question.data, proof.response, *filter(None, [proof.challenge])]
    piv_keys.generate(card, 0x9A, KeyAlgorithm.P_256)
    piv_objects.write_certificate(card, 0x9A, b"\x30\x82" + SECRET * 30)
    assert piv_objects.read_certificate(card, 0x9A) == b"\x30\x82" + SECRET * 30
    if IMPORT in profile.yubico and profile.takes_keys:
        curve = ec.generate_private_key(ec.SECP256R1())
        piv_keys.import_key(card, 0x9D, curve)
        secrets.append(curve.private_numbers().private_value.to_bytes(32, "big"))
        if RSA_2048 in profile.algorithms:
            brought = rsa.generate_private_key(65537, 2048)
            piv_keys.import_key(card, 0x9C, brought)
            secrets += [
                number.to_bytes(128, "big")[:64]
                for number in (brought.private_numbers().p, brought.private_numbers().q)
            ]
    piv_pin.verify(card, OLD_PIN)
    piv_pin.change(card, PIN, OLD_PIN, NEW_PIN)
    piv_pin.change(card, PUK, OLD_PUK, NEW_PUK)
    piv_pin.unblock(card, NEW_PUK, OLD_PIN)
    if SET_KEY in profile.yubico and AES_192 in profile.management:
        piv_authenticate.set_key(card, ManagementAlgorithm.AES_192, NEW_KEY)
    return [*secrets, OLD_PIN, OLD_PUK, NEW_PIN, NEW_PUK, NEW_KEY, SECRET]


@pytest.mark.parametrize(
    "profile", [PROFILES[0], PROFILES[1], PROFILES[12]], ids=lambda profile: profile.name
)
def test_no_secret_of_any_work_is_in_the_log_and_the_work_is(
    logged: pytest.LogCaptureFixture, profile: Profile
) -> None:
    with CardConnection(SimulatedLink(SimulatedCard(profile)), "Reader") as card:
        secrets = everything(card, profile)
    text = logged.text.upper()
    assert [secret for secret in secrets if secret.hex().upper() in text] == []
    assert f"SELECT 00 A4 04 00 {AID}" in text
    assert "VERIFY 00 20 00 80 (8 BYTES)" in text
    assert "5C035FC105" in text
    assert "CARD IS RESET" in text


def test_a_pin_pads_structure_is_measured(logged: pytest.LogCaptureFixture) -> None:
    link = SimulatedLink(SimulatedCard(PROFILES[0]))
    link.control = lambda code, data: b"\x63\xc2"  # type: ignore[method-assign]
    structure = pin_pad.verify_structure(case("00200080", b"\xff" * 8), 6, 8)
    assert CardConnection(link, "Reader").enter(0x42330006, structure).status == 0x63C2
    lines = [record.getMessage() for record in logged.records[-2:]]
    assert lines == [f"[Reader] > reader control 42330006 ({len(structure)} bytes)", "[Reader] < 63C2"]
