"""What each kind of certificate may be used for: one row for each profile (RFC 5280, 4.2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from portal.ca.x509 import PublicKey


class Profile(NamedTuple):
    """A kind of certificate.

    Attributes:
        signs: digitalSignature.
        commits: nonRepudiation (contentCommitment).
        receives: keyEncipherment (RSA) or keyAgreement (EC).
        purposes: extended key usages.
    """

    signs: bool
    commits: bool
    receives: bool
    purposes: tuple[x509.ObjectIdentifier, ...]


PROFILES: Final[dict[str, Profile]] = {
    "authentication": Profile(True, False, False, (ExtendedKeyUsageOID.CLIENT_AUTH,)),
    "signature": Profile(True, True, False, (ExtendedKeyUsageOID.EMAIL_PROTECTION,)),
    "encryption": Profile(False, False, True, (ExtendedKeyUsageOID.EMAIL_PROTECTION,)),
}


def key_usage(profile: Profile, key: PublicKey) -> x509.KeyUsage:
    """KeyUsage of a profile for this kind of key."""
    is_rsa = isinstance(key, rsa.RSAPublicKey)
    return x509.KeyUsage(
        digital_signature=profile.signs,
        content_commitment=profile.commits,
        key_encipherment=profile.receives and is_rsa,
        key_agreement=profile.receives and not is_rsa,
        data_encipherment=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
