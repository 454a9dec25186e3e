"""What a card signs for *authenticate* and *sign*, made by another implementation than the agent's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from protocol import proofs
from protocol.messages import Authenticate, CardSignature, Sign

if TYPE_CHECKING:
    from tests.support.software_agent import PrivateKey, SoftwareAgent


def signed(key: PrivateKey, certificate: bytes, digest: bytes) -> CardSignature:
    """What a card's key signs."""
    if isinstance(key, rsa.RSAPrivateKey):
        value = key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
        return CardSignature(certificate=certificate, algorithm="RS256", signature=value)
    r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    value = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return CardSignature(certificate=certificate, algorithm="ES256", signature=value)


def digest_of(agent: SoftwareAgent, origin: str | None = None) -> bytes:
    """What the order wants signed."""
    assert agent.order is not None
    wanted = agent.order.parameters
    if isinstance(wanted, Sign):
        return wanted.digest
    assert isinstance(wanted, Authenticate)
    return hashlib.sha256(
        proofs.authentication_input(origin or agent.order.origin, wanted.challenge)
    ).digest()


def authentication(agent: SoftwareAgent, origin: str | None = None) -> CardSignature:
    """The right signature of the card that this device has."""
    return signed(agent.card.keys["9A"], agent.card.certificates["9A"], digest_of(agent, origin))
