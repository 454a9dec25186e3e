"""Tokens: one algorithm, one kind, the caller's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from protocol import jose
from protocol.errors import InlayError
from protocol.messages import Proceed, PublicJwk, Ticket

PORTAL = jose.SigningKey.generate()
OTHER = jose.SigningKey.generate()
TICKET = Ticket(iss="portal.test", aud="inlay", origin="https://portal.test", level="read", iat=1, exp=2)


def _encode(value: object) -> str:
    return jose.base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def _hmac_token(secret: bytes) -> str:
    """The classic confusion: HS256 under the public key's text."""
    signed = f"{_encode({'alg': 'HS256', 'typ': jose.TICKET})}.{_encode({'iss': 'portal.test'})}"
    return f"{signed}.{_encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def _with_header(token: str, **changes: object) -> str:
    header, payload, signature = token.split(".")
    members = json.loads(base64.urlsafe_b64decode(header + "=="))
    return ".".join((_encode({**members, **changes}), payload, signature))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "..",
        f"{_encode({'alg': 'none', 'typ': jose.TICKET})}.{_encode({'iss': 'portal.test'})}.",
        _hmac_token(json.dumps({"x": PORTAL.public.x, "y": PORTAL.public.y}).encode()),
        _with_header(PORTAL.sign(jose.TICKET, TICKET), alg="ES384"),
        _with_header(PORTAL.sign(jose.TICKET, TICKET), alg=["ES256"]),
        PORTAL.sign(jose.ORDER, TICKET),
        PORTAL.sign(jose.TICKET, TICKET, crit=["b64"], b64=True),
    ],
)
def test_refuses_another_algorithm_or_kind(token: str) -> None:
    with pytest.raises(jose.TokenError) as caught:
        jose.verify(token, jose.TICKET, [PORTAL.public], Ticket)
    assert caught.value.reason == "algorithm"


def test_a_key_in_the_header_is_never_used() -> None:
    token = OTHER.sign(
        jose.TICKET, TICKET, jwk={"kty": "EC", "crv": "P-256", "x": OTHER.public.x, "y": OTHER.public.y}
    )
    with pytest.raises(jose.TokenError) as caught:
        jose.verify(token, jose.TICKET, [PORTAL.public], Ticket)
    assert caught.value.reason == "signature"


@pytest.mark.parametrize("part", [0, 1, 2])
def test_any_altered_part_is_refused(part: int) -> None:
    parts = PORTAL.sign(jose.TICKET, TICKET).split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=="))
    raw[len(raw) // 2] ^= 1
    parts[part] = jose.base64url(bytes(raw))
    with pytest.raises(jose.TokenError):
        jose.verify(".".join(parts), jose.TICKET, [PORTAL.public], Ticket)


def test_a_key_off_the_curve_verifies_nothing() -> None:
    bad = PublicJwk(kty="EC", crv="P-256", x="A" * 43, y="A" * 43)
    with pytest.raises(jose.TokenError):
        jose.verify(PORTAL.sign(jose.TICKET, TICKET), jose.TICKET, [bad], Ticket)


def test_a_signed_payload_that_breaks_the_protocol_names_the_path() -> None:
    token = PORTAL.sign(jose.TICKET, Proceed())
    with pytest.raises(jose.TokenError) as caught:
        jose.verify(token, jose.TICKET, [PORTAL.public], Ticket)
    assert (caught.value.reason, caught.value.path) == ("payload", "$.iss")


def test_verifies_with_any_of_the_keys_given() -> None:
    token = PORTAL.sign(jose.TICKET, TICKET)
    assert jose.verify(token, jose.TICKET, [OTHER.public, PORTAL.public], Ticket) == TICKET


def test_a_secret_to_another_key_or_altered_is_refused() -> None:
    token = jose.encrypt(b"secret", PORTAL.public)
    head, _, tail = token.rpartition(".")
    for key, text in ((OTHER, token), (PORTAL, f"{head}.{'A' * len(tail)}"), (PORTAL, "a.b.c.d.e")):
        with pytest.raises(InlayError) as caught:
            key.decrypt(text)
        assert caught.value.code == "message_signature_invalid"
    assert PORTAL.decrypt(token) == b"secret"


def test_thumbprint_is_rfc_7638s() -> None:
    """RFC 7638 has no P-256 example; the members' order and form are those of its section 3.2."""
    expected = hashlib.sha256(
        f'{{"crv":"P-256","kty":"EC","x":"{PORTAL.public.x}","y":"{PORTAL.public.y}"}}'.encode()
    ).digest()
    assert jose.thumbprint(PORTAL.public) == jose.base64url(expected)
    assert jose.fingerprint(PORTAL.public).replace(" ", "") == expected.hex().upper()


def test_a_key_survives_its_pem_and_never_shows_itself() -> None:
    again = jose.SigningKey.from_pem(PORTAL.to_pem())
    assert again.thumbprint == PORTAL.thumbprint
    assert repr(again) == f"SigningKey({PORTAL.thumbprint})"
