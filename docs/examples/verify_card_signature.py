"""Verify what a card has signed for *authenticate* or *sign*: an example for portals in any language.

It needs the package ``cryptography`` and nothing of Inlay. It checks, in this order, and says which of it fails:

1. the certificate is issued by the CA that you trust, and valid at the time that you name;
2. it is for that use: key usage digitalSignature and extended key usage clientAuth, or key usage nonRepudiation;
3. the signature is the key's, over your own origin and the challenge that you drew, or over the document's digest.

What it can't check for you: that the certificate isn't revoked (CRL or OCSP), whose it is, and that the challenge was
used once only.

Usage::

    verify_card_signature.py CA.pem authenticate ORIGIN CHALLENGE < signature.json
    verify_card_signature.py CA.pem sign DOCUMENT < signature.json

``signature.json`` holds ``certificate``, ``algorithm`` and ``signature`` as the receipt has them (base64).
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import sys
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID


class Refused(Exception):
    """Why it is not accepted."""


def authentication_digest(origin: str, challenge: str) -> bytes:
    """SHA-256 of SHA-256(origin) and SHA-256(challenge), as in a Web eID authentication token."""
    parts = (hashlib.sha256(text.encode()).digest() for text in (origin, challenge))
    return hashlib.sha256(b"".join(parts)).digest()


def check_certificate(certificate: x509.Certificate, ca: x509.Certificate, now: datetime.datetime) -> None:
    """See that a certificate is the CA's and valid."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        raise Refused("The certificate is not of this CA.") from None
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise Refused("The certificate is not valid at this time.")


def check_use(certificate: x509.Certificate, use: str) -> None:
    """See that a certificate is for this use."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        if use == "sign":
            fits = usage.content_commitment
        else:
            extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            fits = usage.digital_signature and ExtendedKeyUsageOID.CLIENT_AUTH in extended
    except x509.ExtensionNotFound:
        fits = False
    if not fits:
        raise Refused("The certificate is not for this use.")


def check_signature(certificate: x509.Certificate, algorithm: str, signature: bytes, digest: bytes) -> None:
    """See that a signature is of the certificate's key, over a SHA-256 digest (RFC 7518, section 3)."""
    key, over = certificate.public_key(), Prehashed(hashes.SHA256())
    try:
        if algorithm == "RS256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), over)
        elif algorithm == "ES256" and isinstance(key, ec.EllipticCurvePublicKey) and len(signature) == 64:
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(over))
        else:
            raise Refused("The signature is not of this key's kind.")
    except InvalidSignature:
        raise Refused("The signature is not over this, or not of this key.") from None


def main(arguments: list[str]) -> int:
    """Verify what comes on standard input."""
    match arguments:
        case [ca_file, "authenticate" as use, origin, challenge]:
            digest = authentication_digest(origin, challenge)
        case [ca_file, "sign" as use, document]:
            digest = hashlib.sha256(Path(document).read_bytes()).digest()
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    given = json.load(sys.stdin)
    certificate = x509.load_der_x509_certificate(base64.b64decode(given["certificate"]))
    ca = x509.load_pem_x509_certificate(Path(ca_file).read_bytes())
    try:
        check_certificate(certificate, ca, datetime.datetime.now(datetime.UTC))
        check_use(certificate, use)
        check_signature(certificate, given["algorithm"], base64.b64decode(given["signature"]), digest)
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    sys.stdout.write(f"good: {certificate.subject.rfc4514_string()}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
