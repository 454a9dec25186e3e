"""What the portal needs of a certificate authority, whoever runs it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from portal.model.states import CaState


class Reason(enum.StrEnum):
    """Reasons of a revocation (RFC 5280, 5.3.1), all of them.

    Two aren't reasons to revoke: ``CERTIFICATE_HOLD`` is what ``hold`` writes, and ``REMOVE_FROM_CRL`` stands in delta
    CRLs alone, which this portal doesn't have: a released certificate is simply not on the next CRL.
    """

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    REMOVE_FROM_CRL = "removeFromCRL"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"
    AA_COMPROMISE = "aACompromise"


REVOKING: Final = frozenset(Reason) - {Reason.CERTIFICATE_HOLD, Reason.REMOVE_FROM_CRL}
"""Reasons that a certificate can be revoked with, for good."""


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
        hold: whether it is on hold (certificateHold) from its first moment, until ``release``.
    """

    request_id: str
    profile: str
    public_key: bytes
    subject: Subject
    not_after: int
    hold: bool = False


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

    async def status(self, serial: str) -> CaState | None:
        """What the CA says of a certificate now (serial in hexadecimal); None when it isn't one of this CA."""

    async def hold(self, serial: str) -> None:
        """Put a certificate on hold; returns when it is, also if it was before.

        Raises:
            CaRefusedError: ``serial``: it isn't one of this CA; ``revoked``: it is revoked for good.
        """

    async def release(self, serial: str) -> None:
        """Take a certificate off hold; returns when it is good, also if it was before.

        Raises:
            CaRefusedError: ``serial``: it isn't one of this CA; ``revoked``: it is revoked for good.
        """

    async def revoke(self, serial: str, reason: Reason) -> None:
        """Revoke a certificate for good, on hold or not; returns when it is revoked, also if it was before.

        Raises:
            CaRefusedError: ``serial``: it isn't one of this CA; ``reason``: not one of ``REVOKING``.
        """

    async def crl(self) -> bytes:
        """The current CRL, DER."""
