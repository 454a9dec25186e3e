"""Certificates that were read from a card or came from a portal: neither has to be one that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What reading a part of a certificate raises when it is none: a name, a date, a key, the version (RFC 5280, 4.1)."""


def key_in(der: bytes) -> CertificatePublicKeyTypes | None:
    """The public key of a certificate; None when these bytes are none, or its key is of no known kind.

    Args:
        der: whatever was read.
    """
    try:
        return x509.load_der_x509_certificate(der).public_key()
    except UNREADABLE:
        return None
