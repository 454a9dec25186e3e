"""Proofs are bound to origin, order and certificate."""

from __future__ import annotations

import hashlib
import hmac

from protocol import proofs


def test_signature_input_is_as_specified() -> None:
    expected = (
        b"inlay-proof-1"
        + hashlib.sha256(b"https://portal.test").digest()
        + b"order-1"
        + hashlib.sha256(b"certificate").digest()
    )
    assert proofs.signature_input("https://portal.test", "order-1", b"certificate") == expected


def test_mac_is_as_specified_and_changes_with_every_part() -> None:
    base = ("https://portal.test", "order-1", b"certificate")
    context = proofs.signature_input(*base).removeprefix(b"inlay-proof-1")
    expected = hmac.new(b"s" * 32, b"inlay-proof-mac-1" + context, hashlib.sha256).digest()
    assert proofs.mac(b"s" * 32, *base) == expected
    others = {
        proofs.mac(b"t" * 32, *base),
        proofs.mac(b"s" * 32, "https://other.test", "order-1", b"certificate"),
        proofs.mac(b"s" * 32, "https://portal.test", "order-2", b"certificate"),
        proofs.mac(b"s" * 32, "https://portal.test", "order-1", b"certificatf"),
    }
    assert len(others | {expected}) == 5


def test_authentication_input_is_as_in_a_web_eid_token() -> None:
    origin, challenge = "https://portal.test", "12345678123456781234567812345678912356789123"
    wanted = hashlib.sha256(origin.encode()).digest() + hashlib.sha256(challenge.encode()).digest()
    assert proofs.authentication_input(origin, challenge) == wanted
    assert proofs.authentication_input(origin + "x", challenge)[32:] == wanted[32:]
    assert proofs.authentication_input(origin + "x", challenge)[:32] != wanted[:32]
