"""What the portal needs of a certificate authority, whoever runs it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class Reason(enum.StrEnum):
    """Reasons of a revocation (RFC 5280, 5.3.1) that the portal uses."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"


class CaError(Exception):
    """Base of what a CA answers instead of a certificate."""


class CaRefusedError(CaError):
    """The CA doesn't issue this certificate, now or later.

    Attributes:
        reason: for the audit log; a word of this portal, not the CA's text.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CaUnavailableError(CaError):
    """Whether the CA did what was asked isn't known: ask ``find`` later."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate is for; the CA makes the name of it, never a request's own subject."""

    name: str
    email: str
    user_id: str


@dataclass(frozen=True, slots=True)
class IssueRequest:
    """What to certify.

    Attributes:
        request_id: the portal's; the same id is the same certificate.
        profile: ``authentication``, ``signature`` or ``encryption``.
        public_key: SubjectPublicKeyInfo, DER.
        subject: whom for.
        not_after: end of validity; the beginning is the CA's time of issue.
    """

    request_id: str
    profile: str
    public_key: bytes
    subject: Subject
    not_after: int


class CertificateAuthority(Protocol):
    """A CA. Every call may take long and may fail with ``CaUnavailableError``."""

    async def certificate(self) -> bytes:
        """The CA's own certificate, DER."""

    async def issue(self, request: IssueRequest) -> bytes:
        """Issue a certificate, DER; asked again with the same request id it answers the same one.

        Raises:
            CaRefusedError: it doesn't.
        """

    async def find(self, *, request_id: str | None = None, key_hash: str | None = None) -> list[bytes]:
        """Certificates issued for a request id or for a key (SHA-256 of the SubjectPublicKeyInfo, hexadecimal)."""

    async def revoke(self, serial: str, reason: Reason) -> None:
        """Revoke a certificate (serial in hexadecimal); returns when it is revoked, also if it was before.

        Raises:
            CaRefusedError: it isn't one of this CA.
        """

    async def crl(self) -> bytes:
        """The current CRL, DER."""
