"""The OCSP responder (RFC 6960) in the lightweight profile (RFC 5019): one question, one answer, no state.

An answer costs one row read by its key and one signature by the responder's own key (a delegated certificate, so that
the CA's key signs nothing that a stranger asks for). Nothing of a request is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from sqlalchemy.exc import SQLAlchemyError

from portal.ca.authority import CaUnavailableError, Reason
from portal.ca.certificates import moment
from portal.keys import KeysUnavailableError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from portal.ca.builtin import BuiltinCa
    from portal.clock import Clock
    from portal.keys import KeyPort

MAX_REQUEST: Final = 2_048
"""Bytes of a request (DER); one with a SHA-512 identifier and a nonce has about 250."""
LIFETIME: Final = 300
"""Seconds until an answer is out of date: as long as a released certificate may still seem to be on hold."""
_MAX_NONCE: Final = 128
"""Bytes (RFC 9654, 2.1)."""
_UNDERSTOOD: Final = frozenset({x509.OCSPNonce.oid})


class Status(NamedTuple):
    """What the CA's list says of a certificate.

    Attributes:
        revoked_at: since when it is revoked or on hold; None when it is good.
        reason: why; ``certificateHold`` while it is on hold.
    """

    revoked_at: int | None
    reason: Reason | None


class Answer(NamedTuple):
    """An answer.

    Attributes:
        der: OCSPResponse.
        until: when it is out of date; None for one that must not be kept: an error, or one with a nonce.
    """

    der: bytes
    until: int | None


class _Question(NamedTuple):
    request: ocsp.OCSPRequest
    nonce: x509.OCSPNonce | None


class OcspResponder:
    """Answers for the built-in CA.

    Args:
        ca: whose certificates are asked for.
        keys: has the responder's key.
        clock: its time.
    """

    def __init__(self, ca: BuiltinCa, keys: KeyPort, clock: Clock) -> None:
        self._ca = ca
        self._keys = keys
        self._clock = clock
        self._own: x509.Certificate | None = None
        self._ask_again = 0

    async def answer(self, request: bytes) -> Answer:
        """Answer a request (DER); what can't be answered gets the error that RFC 6960 has for it, unsigned."""
        question = _read(request)
        if question is None:
            return _error(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        try:
            issuer = x509.load_der_x509_certificate(await self._ca.certificate())
            if not _is_about(question.request, issuer):
                return _error(ocsp.OCSPResponseStatus.UNAUTHORIZED)
            status = await self._ca.ocsp_status(question.request.serial_number)
            key = self._keys.ocsp()
            own = await self._certificate(key.public_key())
            now = self._clock()
            signed = await asyncio.to_thread(_signed, question, status, own, key, now)
        except (CaUnavailableError, KeysUnavailableError, SQLAlchemyError):
            return _error(ocsp.OCSPResponseStatus.TRY_LATER)
        return Answer(signed, None if question.nonce else now + LIFETIME)

    async def _certificate(self, key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        if self._own is None or self._clock() >= self._ask_again or self._own.public_key() != key:
            self._own = await self._ca.responder(key)
            begun, ends = self._own.not_valid_before_utc, self._own.not_valid_after_utc
            self._ask_again = int((begun + (ends - begun) / 2).timestamp())
        return self._own


def _read(der: bytes) -> _Question | None:
    """A request for exactly one certificate, without a critical extension that isn't understood here."""
    if len(der) > MAX_REQUEST:
        return None
    try:
        request = ocsp.load_der_ocsp_request(der)
        extensions = request.extensions
        request.hash_algorithm, request.serial_number  # noqa: B018 - read when asked for, and may be wrong
    except (ValueError, TypeError, NotImplementedError, UnsupportedAlgorithm, x509.DuplicateExtension):
        return None
    if any(extension.critical and extension.oid not in _UNDERSTOOD for extension in extensions):
        return None
    found = [item.value for item in extensions if isinstance(item.value, x509.OCSPNonce)]
    nonce = found[0] if found else None
    if nonce is not None and not 1 <= len(nonce.nonce) <= _MAX_NONCE:
        return None
    return _Question(request, nonce)


def _is_about(request: ocsp.OCSPRequest, issuer: x509.Certificate) -> bool:
    name, key = _hashes(issuer, request.hash_algorithm)
    return (request.issuer_name_hash, request.issuer_key_hash) == (name, key)


def _hashes(issuer: x509.Certificate, algorithm: hashes.HashAlgorithm) -> tuple[bytes, bytes]:
    """CertID's hashes of an issuer (RFC 6960, 4.1.1): of its name, and of its key without tag and algorithm."""
    digest = algorithm.name.replace("-", "_")
    name = hashlib.new(digest, issuer.subject.public_bytes())
    point = issuer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return name.digest(), hashlib.new(digest, point).digest()


def _signed(
    question: _Question,
    status: Status | None,
    own: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    now: int,
) -> bytes:
    asked = question.request
    revoked_at = status.revoked_at if status else None
    if status is None:
        word = ocsp.OCSPCertStatus.UNKNOWN
    else:
        word = ocsp.OCSPCertStatus.GOOD if revoked_at is None else ocsp.OCSPCertStatus.REVOKED
    reason = status.reason if status and status.reason is not Reason.UNSPECIFIED else None
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        asked.issuer_name_hash,
        asked.issuer_key_hash,
        asked.serial_number,
        asked.hash_algorithm,
        word,
        moment(now),
        moment(now + LIFETIME),
        None if revoked_at is None else moment(revoked_at),
        x509.ReasonFlags(reason) if reason else None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, own).certificates([own])
    if question.nonce is not None:
        builder = builder.add_extension(question.nonce, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _error(status: ocsp.OCSPResponseStatus) -> Answer:
    return Answer(ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER), None)
