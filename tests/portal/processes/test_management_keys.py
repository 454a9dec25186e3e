"""A card's management key is derived as NIST SP 800-108r1 says, and no two cards have the same."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import pytest

from portal.processes import management_keys
from protocol.messages import ManagementAlgorithm


@pytest.mark.parametrize(("algorithm", "size"), list(zip(ManagementAlgorithm, (24, 16, 24, 32), strict=True)))
def test_a_key_is_derived_as_the_standard_says(algorithm: ManagementAlgorithm, size: int) -> None:
    """NIST SP 800-108r1, section 4.1, written out."""
    secret, card, generation = bytes(range(32)), "card-1", 7
    parts = (card.encode(), algorithm.value.encode(), generation.to_bytes(8, "big"))
    context = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    fixed = b"inlay management key" + b"\0" + context + (size * 8).to_bytes(4, "big")
    blocks = b"".join(
        hmac.digest(secret, counter.to_bytes(4, "big") + fixed, hashlib.sha256) for counter in (1, 2)
    )
    key = management_keys.derive(secret, card, algorithm, generation)
    if algorithm is ManagementAlgorithm.TRIPLE_DES:
        assert all(bin(byte).count("1") % 2 == 1 for byte in key)
        assert bytes(byte & 0xFE for byte in key) == bytes(byte & 0xFE for byte in blocks[:size])
    else:
        assert key == blocks[:size]


def test_cards_algorithms_and_generations_have_keys_of_their_own() -> None:
    secret = secrets.token_bytes(32)
    keys = {
        management_keys.derive(secret, card, algorithm, generation)
        for card in ("1", "11")
        for algorithm in ManagementAlgorithm
        for generation in (1, 2)
    }
    assert len(keys) == 16
    assert len({key[:16] for key in keys}) == 16
