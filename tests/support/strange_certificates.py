"""Certificates that nobody would issue, and a card may hold all the same."""

from __future__ import annotations

import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID


def certificate(key: Any = None, name: str = "ada") -> bytes:
    """A certificate that nobody would issue, for a key of a kind of one's choice."""
    own = ec.generate_private_key(ec.SECP256R1())
    public = own.public_key() if key is None else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(public)
    builder = builder.serial_number(77).not_valid_before(now).not_valid_after(now + datetime.timedelta(1))
    return builder.sign(own, hashes.SHA256()).public_bytes(Encoding.DER)


def other_version() -> bytes:
    """Version 78 (RFC 5280, section 4.1.2.1, knows three)."""
    return certificate().replace(bytes.fromhex("A003020102"), bytes.fromhex("A00302014D"), 1)


def other_curve() -> bytes:
    """A key on a curve that nobody knows."""
    named = bytes.fromhex("06082A8648CE3D030107")
    return certificate().replace(named, named[:-1] + b"\x7f", 1)


def odd_name() -> bytes:
    """The common name is a BIT STRING."""
    der = certificate(name="\x01ada")
    return der.replace(b"\x0c\x04\x01ada", b"\x03\x04\x01ada")


def cut() -> bytes:
    return certificate()[:-9]


def endless() -> bytes:
    """Lengths that are told nowhere."""
    return b"\x30\x80" * 500


STRANGE: Final = [other_version, other_curve, odd_name, cut, endless]
"""What makes the reading of a certificate fail, each in a way of its own."""
