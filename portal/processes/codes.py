"""The codes of an order: one for links and loopback, one for a person to type. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from protocol import jose, link

if TYPE_CHECKING:
    from portal.store.tables import Order

LINK_SECONDS: Final = 120
TYPED_SECONDS: Final = 300
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Codes(NamedTuple):
    """Fresh codes.

    Attributes:
        code: 128 random bits, base64url, 22 characters.
        typed: 50 random bits, Crockford's base 32, 10 characters.
    """

    code: str
    typed: str


def renew(order: Order, now: int) -> Codes:
    """Give an order fresh codes; the ones before end at once."""
    codes = Codes(
        jose.base64url(secrets.token_bytes(16)),
        "".join(secrets.choice(_CROCKFORD) for _ in range(link.TYPED_CODE_LENGTH)),
    )
    order.link_code_hash, order.link_code_expires_at = digest(codes.code), now + LINK_SECONDS
    order.typed_code_hash, order.typed_code_expires_at = digest(codes.typed), now + TYPED_SECONDS
    return codes


def digest(text: str) -> str:
    """SHA-256, hexadecimal, of a code or completion secret."""
    return hashlib.sha256(text.encode()).hexdigest()
