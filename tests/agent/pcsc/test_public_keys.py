"""What a card says of keys is read totally: a key or a named error, whatever the bytes."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from agent.pcsc import public_keys
from protocol.errors import InlayError

P_256 = "06082a8648ce3d030107"
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
PRIVATE = rsa.generate_private_key(65537, 2048)
NUMBERS = PRIVATE.private_numbers()


def bare(ciphertext: bytes) -> bytes:
    """What a card that only raises to a power gives back."""
    value = pow(int.from_bytes(ciphertext, "big"), NUMBERS.d, NUMBERS.public_numbers.n)
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


@given(st.binary(max_size=300))
def test_no_bytes_of_a_card_are_taken_for_padding_that_is_none(block: bytes) -> None:
    with pytest.raises(InlayError) as caught:
        public_keys.oaep_message(block, 256)
    assert caught.value.code == "card_answer_malformed"


@given(st.binary(max_size=190))
def test_padding_is_taken_off(message: bytes) -> None:
    ciphertext = PRIVATE.public_key().encrypt(message, OAEP)
    assert public_keys.oaep_message(bare(ciphertext), 256) == message


def test_each_part_of_the_padding_is_looked_at() -> None:
    block = bytearray(bare(PRIVATE.public_key().encrypt(b"message", OAEP)).rjust(256, b"\0"))
    for at in (0, 5, 40, 250):
        broken = bytes(block[:at]) + bytes([block[at] ^ 1]) + bytes(block[at + 1 :])
        with pytest.raises(InlayError):
            public_keys.oaep_message(broken, 256)


@given(st.binary(max_size=140))
def test_points_are_of_their_curve_or_refused(point: bytes) -> None:
    with pytest.raises(InlayError) as caught:
        public_keys.ec_key(P_256, point)
    assert caught.value.code == "card_answer_malformed"


def test_points_come_bare_and_wrapped() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    for given_point in (point, bytes([4, len(point)]) + point):
        assert public_keys.ec_key(P_256, given_point) == key


def test_unknown_curves_and_numbers_that_are_no_key_are_refused() -> None:
    with pytest.raises(InlayError):
        public_keys.ec_key("06052b8104000a", b"\x04")
    with pytest.raises(InlayError):
        public_keys.rsa_key(b"\x04", b"\x02")


@pytest.mark.parametrize("raw", [b"", b"\x01" * 63])
def test_signature_of_odd_length_is_none(raw: bytes) -> None:
    with pytest.raises(InlayError):
        public_keys.ecdsa_der(raw)
