"""The key set: pinned root, no way back, not for ever."""

from __future__ import annotations

import msgspec
import pytest

from protocol import jose, keyset
from protocol.errors import InlayError
from protocol.messages import KeySet

ROOT = jose.SigningKey.generate()
ORDER_KEY = jose.SigningKey.generate()
DAY = 86_400
SET = KeySet(
    iss="portal.test",
    version=5,
    iat=1_000_000,
    exp=1_000_000 + 7 * DAY,
    order_keys=keyset.order_keys([ORDER_KEY]),
    name="Portal",
    channel_path="/inlay/channel",
)


def _verify(token: str, *, now: float = 1_000_001, last: int = 0, last_token: str | None = None) -> KeySet:
    return keyset.verify(
        token, root=ROOT.public, portal="portal.test", now=now, last_version=last, last_token=last_token
    )


def _changed(**changes: object) -> str:
    return keyset.sign(msgspec.structs.replace(SET, **changes), ROOT)


@pytest.mark.parametrize(
    "token",
    [
        keyset.sign(SET, jose.SigningKey.generate()),
        keyset.sign(SET, ORDER_KEY),
        _changed(iss="other.test"),
        _changed(exp=SET.iat),
        _changed(order_keys=[msgspec.structs.replace(SET.order_keys[0], kid=ROOT.thumbprint)]),
        "a.b.c",
    ],
    ids=[
        "foreign root",
        "signed by an order key",
        "another portal",
        "no life",
        "kid of another key",
        "no token",
    ],
)
def test_refuses_a_key_set_that_is_not_the_portals(token: str) -> None:
    with pytest.raises(InlayError) as caught:
        _verify(token)
    assert caught.value.code == "keyset_invalid"


def test_refuses_an_older_version() -> None:
    with pytest.raises(InlayError) as caught:
        _verify(keyset.sign(SET, ROOT), last=6)
    assert caught.value.code == "keyset_rolled_back"


def test_refuses_other_keys_under_the_same_version() -> None:
    other = _changed(order_keys=keyset.order_keys([jose.SigningKey.generate()]))
    with pytest.raises(InlayError) as caught:
        _verify(other, last=5, last_token=keyset.sign(SET, ROOT))
    assert caught.value.code == "keyset_rolled_back"


def test_refuses_an_expired_one_even_with_a_clock_a_day_off() -> None:
    with pytest.raises(InlayError) as caught:
        _verify(keyset.sign(SET, ROOT), now=SET.exp + DAY + 1)
    assert caught.value.code == "keyset_expired"


def test_takes_the_same_set_signed_anew_with_later_dates() -> None:
    later = _changed(iat=SET.iat + DAY, exp=SET.exp + DAY)
    assert _verify(later, last=5, last_token=keyset.sign(SET, ROOT)).version == 5
    assert keyset.expired(SET, SET.exp)
    assert not keyset.expired(SET, SET.exp - 1)
