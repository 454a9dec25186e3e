"""Challenges to keys that don't sign, and the proofs of all keys of a card (design principle 9)."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from portal.ca.x509 import public_key_of
from portal.processes import tasks
from protocol import proofs
from protocol.errors import InlayError
from protocol.messages import Challenge, Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.ca.x509 import PublicKey
    from portal.processes.context import Context
    from portal.processes.tasks import Written
    from portal.store.tables import Certificate, Order
    from protocol.messages import Receipt, SlotProof

_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


class Challenged(NamedTuple):
    """A challenge.

    Attributes:
        challenge: what the device gets.
        secret: what its key finds; kept sealed until the proof comes.
    """

    challenge: Challenge
    secret: bytes


def challenge(certificate: bytes) -> Challenged:
    """Make a challenge to an encryption certificate (DER)."""
    key = public_key_of(certificate)
    if isinstance(key, rsa.RSAPublicKey):
        secret = secrets.token_bytes(32)
        return Challenged(Challenge(ciphertext=key.encrypt(secret, _OAEP)), secret)
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return Challenged(Challenge(ephemeral=point), ephemeral.exchange(ec.ECDH(), key))


async def verify_receipt(context: Context, tx: AsyncSession, order: Order, receipt: Receipt) -> None:
    """Verify a receipt's proofs against the certificates and challenges of its order.

    Raises:
        InlayError: ``proof_invalid`` with the first slot that didn't prove itself.
    """
    answers = {
        slot: context.keys.unseal(bytes.fromhex(sealed), challenge_label(order.jti, slot))
        for slot, sealed in (order.challenges or {}).items()
    }
    written = await tasks.written(tx, order)
    verify_all(receipt.proofs, written, answers, origin=context.origin, jti=order.jti)


def challenge_label(jti: str, slot: str) -> bytes:
    """Associated data of a challenge's sealed secret."""
    return b"inlay-challenge\0" + f"{jti}.{slot}".encode()


def verify_all(
    given: Sequence[SlotProof],
    written: Sequence[Written],
    answers: Mapping[str, bytes | bytearray],
    *,
    origin: str,
    jti: str,
) -> None:
    """Verify the proofs of a receipt: exactly one for each certificate.

    Args:
        given: the receipt's proofs.
        written: what the order has put on the card.
        answers: slot to the secret of its challenge.
        origin: of the page that began the order.
        jti: the order's id.

    Raises:
        InlayError: ``proof_invalid`` with the first slot that didn't prove itself.
    """
    by_slot = {proof.slot: proof for proof in given}
    if len(by_slot) != len(given):
        raise InlayError("proof_invalid", slot=given[0].slot)
    for slot, certificate, _ in written:
        proof = by_slot.pop(slot, None)
        if proof is None or not _proves(proof, certificate, answers.get(slot), origin, jti):
            raise InlayError("proof_invalid", slot=slot)
    for slot in by_slot:
        raise InlayError("proof_invalid", slot=slot)


def _proves(
    proof: SlotProof,
    certificate: Certificate,
    secret: bytes | bytearray | None,
    origin: str,
    jti: str,
) -> bool:
    der = certificate.der
    if not hmac.compare_digest(proof.certificate_sha256, proofs.certificate_hash(der)):
        return False
    if certificate.profile == Purpose.ENCRYPTION:
        if proof.mac is None or proof.signature is not None or secret is None:
            return False
        return hmac.compare_digest(proof.mac, proofs.mac(secret, origin, jti, der))
    if proof.signature is None or proof.mac is not None:
        return False
    return _signed(public_key_of(der), proof.signature, proofs.signature_input(origin, jti, der))


def _signed(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
