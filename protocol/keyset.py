"""The portal's key set: signed by its pinned root key, short-lived, with a version that never goes down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import jose
from protocol.errors import InlayError
from protocol.messages import KeySet, OrderKey, PublicJwk

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_DRIFT = 24 * 3600


def sign(key_set: KeySet, root: jose.SigningKey) -> str:
    """Sign a key set with the root key; compact JWS."""
    return root.sign(jose.KEY_SET, key_set)


def verify(
    token: str, *, root: PublicJwk, portal: str, now: float, last_version: int, last_token: str | None = None
) -> KeySet:
    """Verify a key set.

    Args:
        token: compact JWS as the portal sent it.
        root: the pinned root key.
        portal: the portal's id in the trust store.
        now: this machine's clock; the clock may be off by up to 24 hours.
        last_version: highest version seen before, 0 for none.
        last_token: the token of that version; the same version must be the same token.

    Raises:
        InlayError: ``keyset_invalid``, ``keyset_expired`` or ``keyset_rolled_back``.
    """
    try:
        key_set = jose.verify(token, jose.KEY_SET, [root], KeySet)
    except jose.TokenError:
        raise InlayError("keyset_invalid") from None
    fits = all(jose.thumbprint(item.key) == item.kid for item in key_set.order_keys)
    if key_set.iss != portal or not fits or key_set.exp <= key_set.iat:
        raise InlayError("keyset_invalid")
    if key_set.version < last_version:
        raise InlayError("keyset_rolled_back")
    if key_set.version == last_version and last_token is not None and not _same_keys(token, last_token, root):
        raise InlayError("keyset_rolled_back")
    if now > key_set.exp + _MAX_DRIFT:
        raise InlayError("keyset_expired")
    return key_set


def order_keys(keys: Sequence[jose.SigningKey]) -> list[OrderKey]:
    """The public halves of order keys, as a key set lists them."""
    return [OrderKey(kid=key.thumbprint, key=key.public) for key in keys]


def expired(key_set: KeySet, portal_time: float) -> bool:
    """Tell whether the set has expired in the portal's own time."""
    return portal_time >= key_set.exp


def _same_keys(token: str, other: str, root: PublicJwk) -> bool:
    """Two sets of one version differ at most in their dates: a portal signs a set anew before it expires."""
    mine = jose.verify(token, jose.KEY_SET, [root], KeySet)
    theirs = jose.verify(other, jose.KEY_SET, [root], KeySet)
    return mine.order_keys == theirs.order_keys and mine.channel_path == theirs.channel_path
