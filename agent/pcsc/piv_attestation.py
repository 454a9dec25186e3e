"""Attestation: a card's signed statement of where a key comes from, judged against what was ordered.

Yubico's form: ATTEST answers a certificate of the slot's key, signed by the attestation key; its certificate lies in
object 5FFF01 and was signed by a maker's root that the administrator configured. A statement of another card, key or
slot is worth nothing, and so is one whose chain isn't the maker's.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from agent.pcsc import piv_select, tlv
from agent.pcsc.apdu import Card, Command, malformed
from agent.pcsc.piv_keys import PublicKey
from agent.pcsc.piv_names import ATTESTATION, PinPolicy, TouchPolicy, slot_name
from agent.pcsc.piv_objects import read_certificate
from agent.pcsc.status import NO_REFERENCE, NOT_FOUND, WRONG_DATA, WRONG_PARAMETERS, require_ok
from protocol.errors import InlayError

_ARC: Final = "1.3.6.1.4.1.41482.3."
_FIRMWARE, _SERIAL, _POLICY = (x509.ObjectIdentifier(_ARC + number) for number in "378")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a card states, and the certificate of who signed it; nothing is verified yet. Both are DER."""

    statement: bytes
    issuer: bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """What a statement has to say.

    Attributes:
        slot: the key's.
        public: the key, as the card answered when it made it.
        serial: the card's; None where the order names none.
        pin_policy: at least this is stated; None where the order asks for none.
        touch_policy: the same.
    """

    slot: int
    public: PublicKey
    serial: int | None = None
    pin_policy: PinPolicy | None = None
    touch_policy: TouchPolicy | None = None


def attest(card: Card, slot: int) -> Statement:
    """ATTEST a key that was made on the card.

    Raises:
        InlayError: ``card_feature_missing`` where the card can't, ``card_key_missing`` when the key wasn't made on the
            card or isn't there, ``card_answer_malformed``, ``card_refused``, ``pcsc_…``.
    """
    said = statement(card, slot)
    signer = read_certificate(card, ATTESTATION)
    if signer is None:
        raise malformed(Command(0xF9, slot, 0x00))
    return Statement(said, signer)


def statement(card: Card, slot: int) -> bytes:
    """What the card states of a key; see `attest`."""
    command = Command(0xF9, slot, 0x00)
    answer = card.send(command)
    if answer.status in (NO_REFERENCE, NOT_FOUND, WRONG_DATA, WRONG_PARAMETERS):
        raise InlayError("card_key_missing", slot=slot_name(slot))
    return require_ok(command, answer)


def issuer(card: Card) -> bytes | None:
    """The certificate of the card's attestation key; None where the card can't attest, or has none. Changes nothing.

    Raises:
        InlayError: ``pcsc_…``, ``card_refused``.
    """
    if not piv_select.can_attest(card):
        return None
    try:
        return read_certificate(card, ATTESTATION)
    except InlayError as error:
        if error.code != "card_answer_malformed":
            raise
        return None  # what can't be read proves nothing


def verify(
    statement: Statement, expected: Expected, roots: Sequence[x509.Certificate], now: datetime.datetime
) -> str | None:
    """Verify a statement.

    Args:
        statement: the card's.
        expected: what it has to say.
        roots: the makers' certificates that the administrator configured.
        now: with its time zone.

    Returns:
        The card's firmware version as it stated it; None when it didn't.

    Raises:
        InlayError: ``card_attestation_invalid`` with what isn't right as ``check``.
    """
    try:
        leaf = x509.load_der_x509_certificate(statement.statement)
        issuer = x509.load_der_x509_certificate(statement.issuer)
        _check_chain(leaf, issuer, roots, now)
        _check_said(leaf, expected)
        return _firmware(leaf)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        tlv.TlvError,
    ):
        raise InlayError("card_attestation_invalid", check="chain") from None


def _check_chain(
    leaf: x509.Certificate,
    issuer: x509.Certificate,
    roots: Sequence[x509.Certificate],
    now: datetime.datetime,
) -> None:
    root = next((root for root in roots if _issued(issuer, root)), None)
    _require("chain", root is not None and _issued(leaf, issuer))
    for certificate in (leaf, issuer, *([root] if root is not None else [])):
        _require("date", certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether a CA's certificate signed another; a root that is configured itself counts as issued by itself."""
    if certificate == issuer:
        return True
    try:
        authority = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    return authority


def _check_said(leaf: x509.Certificate, expected: Expected) -> None:
    _require("key", _spki(leaf.public_key()) == _spki(expected.public))
    name = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    words = str(name[0].value).split() if len(name) == 1 else [""]
    _require("slot", words[-1].upper() == slot_name(expected.slot))
    if expected.serial is not None:
        _require("serial", _serial(leaf) == expected.serial)
    policy = _extension(leaf, _POLICY) or b"\0\0"
    for stated, wanted in zip(policy, (expected.pin_policy, expected.touch_policy), strict=True):
        _require("policy", wanted is None or stated == wanted)


def _serial(leaf: x509.Certificate) -> int | None:
    raw = _extension(leaf, _SERIAL)
    return None if raw is None else int.from_bytes(tlv.only(raw, 0x02), "big", signed=True)


def _firmware(leaf: x509.Certificate) -> str | None:
    raw = _extension(leaf, _FIRMWARE)
    return ".".join(map(str, raw)) if raw is not None and len(raw) == 3 else None


def _extension(leaf: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    try:
        value = leaf.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _spki(public: object) -> bytes:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    raw: bytes = public.public_bytes(*form)  # type: ignore[attr-defined]
    return raw


def _require(check: str, holds: bool) -> None:
    if not holds:
        raise InlayError("card_attestation_invalid", check=check)
