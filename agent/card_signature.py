"""What a card's key has signed, as *authenticate* and *sign* tell the portal: in the forms of RFC 7518, section 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from agent.certificates import key_in
from protocol.errors import InlayError
from protocol.messages import CardSignature

if TYPE_CHECKING:
    from collections.abc import Mapping

_COORDINATE: Final = 32
_RSA_BITS: Final = (2048, 3072, 4096)


def certificate_in(certificates: Mapping[str, bytes], slot: str) -> bytes:
    """The certificate of a key that signs as these operations do: RSA of 2048 bits or more or P-256, by SHA-256.

    Args:
        certificates: slot to DER.
        slot: the key.

    Raises:
        InlayError: ``card_key_missing``: there is none, or another program has written something else.
    """
    der = certificates.get(slot, b"")
    key = key_in(der)
    if (isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return der
    raise InlayError("card_key_missing", slot=slot)


def card_signature(certificate: bytes, signature: bytes) -> CardSignature:
    """A signature with the certificate of its key.

    Args:
        certificate: DER, from `certificate_in`.
        signature: PKCS#1 v1.5, or ECDSA in DER; whatever the card has answered.

    Raises:
        InlayError: ``card_answer_malformed``: no key of this kind signs so.
    """
    key = key_in(certificate)
    if isinstance(key, rsa.RSAPublicKey):
        if len(signature) != key.key_size // 8:
            raise _malformed()
        return CardSignature(certificate=certificate, algorithm="RS256", signature=signature)
    try:
        parts = [part.to_bytes(_COORDINATE, "big") for part in decode_dss_signature(signature)]
    except (ValueError, OverflowError):
        raise _malformed() from None
    return CardSignature(certificate=certificate, algorithm="ES256", signature=b"".join(parts))


def _malformed() -> InlayError:
    return InlayError("card_answer_malformed", command="GENERAL AUTHENTICATE")
