"""A physical PIV card as orders work on cards: keys, requests, certificates, proofs, by the driver *piv*.

The methods are those of ``agent.virtual_card_ports.CardInProgress``; what may be said of the card is `PivCardFacts`.
A PIN is sent when the card wants it and was right before: one that was wrong is never sent again, whoever asks for it.
One that is typed at the reader's keys is asked for there whenever the card wants it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.certificates import key_in
from agent.pcsc import piv_keys, piv_objects, piv_pin, piv_policies, piv_use, pkcs10, public_keys
from agent.pcsc.piv_names import (
    CARD_AUTHENTICATION,
    CERTIFICATES,
    PUK,
    SIGNATURE,
    SLOTS,
    KeyAlgorithm,
    PinPolicy,
    TouchPolicy,
    slot_name,
)
from agent.pcsc.piv_policies import USUAL
from protocol.errors import DecodeError, InlayError
from protocol.messages import Algorithm, CertificateRequest

if TYPE_CHECKING:
    from agent.card_session import CardSession
    from agent.pad_entry import PadEntry
    from agent.pcsc.connection import CardConnection
    from agent.pcsc.piv_keys import PublicKey
    from agent.pcsc.piv_policies import Policies
    from protocol.messages import Challenge

T = TypeVar("T")

NO_POLICIES: Final[Mapping[int, Policies]] = MappingProxyType({})
ALGORITHMS: Final = {Algorithm.RSA_2048: KeyAlgorithm.RSA_2048, Algorithm.P_256: KeyAlgorithm.P_256}


@dataclass(frozen=True, slots=True)
class PivCardFacts:
    """What may be said of a card.

    Attributes:
        guid: of its CHUID, 32 hexadecimal digits; None when it has none.
        certificates: slot (``9A``) to DER.
        pin_tries: tries left; None when the card doesn't tell.
        puk_tries: the same of the PUK.
    """

    guid: str | None
    certificates: dict[str, bytes]
    pin_tries: int | None
    puk_tries: int | None


class PivCard:
    """A selected card in a session; management authentication and the session itself are the order's."""

    def __init__(
        self,
        session: CardSession,
        pad: PadEntry | None = None,
        policies: Mapping[int, Policies] = NO_POLICIES,
    ) -> None:
        """Use a card that is connected and selected.

        Args:
            session: its session.
            pad: asks for the PIN at the reader; what the methods get for a PIN is not looked at then.
            policies: slot to what keys get that are made or brought there, beyond the standard.
        """
        self._session, self._pad, self._policies = session, pad, policies
        self._public: dict[int, PublicKey] = {}
        self._verified = self._fresh = self._signed = self._forgets = False
        self._salt = os.urandom(16)
        self._refused: dict[bytes, InlayError] = {}
        self._displaced: dict[int, bytes] = {}

    def move_to(self, session: CardSession) -> None:
        """Go on in another session of the same card, in which no PIN was verified yet."""
        if session is not self._session:
            self._session, self._verified, self._fresh, self._signed = session, False, False, False

    async def facts(self) -> PivCardFacts:
        """What may be said of it now; spends no try.

        Raises:
            InlayError: ``pcsc_…``, ``card_answer_malformed``.
        """
        return await self._session.run(_facts)

    async def require(self, guid: str) -> None:
        """See that it is the card that the order is about, before anything is written to it.

        Raises:
            InlayError: ``card_other``.
        """
        chuid = await self._session.run(piv_objects.read_chuid)
        if chuid is None or chuid.guid.hex() != guid:
            raise InlayError("card_other")

    async def generate(self, slot: str, algorithm: Algorithm) -> None:
        """Make a key in a slot: the one that was there is gone.

        Raises:
            InlayError: ``card_management_needed``, ``card_algorithm_missing``, ``card_slot_missing``, ``pcsc_…``;
                ``card_policy_missing``, without the policies' text.
        """
        reference = _reference(slot)
        wanted = self._policies.get(reference, USUAL)
        made = self._session.run(piv_policies.generate, reference, ALGORITHMS[algorithm], wanted)
        self._public[reference] = await made

    async def import_key(self, slot: str, pkcs8: bytearray) -> None:
        """Put a key that was made elsewhere into a slot.

        Raises:
            InlayError: ``recovered_key_invalid``; ``card_feature_missing`` where the card takes none; as `generate`.
        """
        try:
            private = serialization.load_der_private_key(bytes(pkcs8), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise InlayError("recovered_key_invalid", slot=slot) from None
        if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise InlayError("recovered_key_invalid", slot=slot)
        reference = _reference(slot)
        wanted = self._policies.get(reference, USUAL)
        await self._session.run(piv_policies.import_key, reference, private, wanted)
        self._public[reference] = private.public_key()

    async def request(self, slot: str, subject: str, pin: bytearray, *, signs: bool) -> CertificateRequest:
        """Ask for a certificate: PKCS#10 where the key ``signs``, else its public key alone.

        Raises:
            DecodeError: ``order_malformed``: the subject is none.
            InlayError: ``card_pin_…``, ``card_key_missing``, ``pcsc_…``.
        """
        public = await self._session.run(self._key, _reference(slot))
        if not signs:
            return CertificateRequest(slot=slot, public_key=_spki(public))
        try:
            if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
                raise InlayError("card_algorithm_missing", algorithm=piv_keys.algorithm_of(public).label)
            wanted = pkcs10.information(subject, public)
        except ValueError:
            raise DecodeError("order_malformed", f"$.parameters.keys.{slot}.subject") from None
        signature = await self.sign(slot, wanted, pin)
        return CertificateRequest(slot=slot, csr=pkcs10.request(wanted, public, signature))

    async def verify(self, pin: bytearray) -> None:
        """VERIFY the PIN: one try, unless this very value was refused before.

        Raises:
            InlayError: ``card_pin_…``, ``pcsc_…``.
        """
        await self._session.run(self._verify, pin)

    async def set_pin(self, puk: bytearray, pin: bytearray) -> None:
        """Set a new PIN by the PUK: one try of it.

        Raises:
            InlayError: ``card_puk_wrong``, ``card_puk_blocked``, ``card_pin_form``, ``pcsc_…``.
        """
        await self._session.run(piv_pin.unblock, puk, pin)
        self._verified = self._fresh = False
        self._refused.clear()

    async def write_certificate(self, slot: str, der: bytes) -> None:
        """Write a certificate, read it back, and check that the slot's key is the certificate's.

        Raises:
            InlayError: ``card_check_failed``; ``card_object_too_large``, ``card_object_lost``,
                ``card_management_needed``, ``pcsc_…``.
        """
        await self._session.run(self._write, slot, der)

    async def certificate(self, slot: str) -> bytes | None:
        """A slot's certificate, DER, whose key is the slot's until something else is known; None when there is none.

        Raises:
            InlayError: ``card_answer_malformed``, ``card_refused``, ``pcsc_…``.
        """
        return await self._session.run(self._certificate, _reference(slot))

    async def sign(self, slot: str, message: bytes, pin: bytearray) -> bytes:
        """Sign a message: PKCS#1 v1.5 with SHA-256, or ECDSA (DER) with the hash that fits the curve.

        Raises:
            InlayError: ``card_pin_…``, ``card_key_missing``, ``pcsc_…``.
        """
        return await self._session.run(self._with_pin, _reference(slot), pin, _signing(message))

    async def sign_digest(self, slot: str, digest: bytes, pin: bytearray) -> bytes:
        """Sign a SHA-256 digest: PKCS#1 v1.5, or ECDSA (DER).

        Raises:
            InlayError: ``card_pin_…``, ``card_key_missing``, ``pcsc_…``.
        """

        def work(card: CardConnection, reference: int, public: PublicKey) -> bytes:
            return piv_use.sign_digest(card, reference, piv_keys.algorithm_of(public), digest)

        return await self._session.run(self._with_pin, _reference(slot), pin, work)

    async def answer(self, slot: str, challenge: Challenge, pin: bytearray) -> bytes:
        """The secret behind a challenge: decrypted (RSA), or agreed on (EC).

        Raises:
            DecodeError: ``params_invalid``: it is neither of the two kinds, both, or not of this key's kind.
            InlayError: ``card_pin_…``, ``card_key_missing``, ``card_answer_malformed``, ``pcsc_…``.
        """
        match challenge.ciphertext, challenge.ephemeral:
            case bytes() as ciphertext, None:
                work = _decrypting(ciphertext)
            case None, bytes() as point:
                work = _agreeing(point)
            case _:
                raise DecodeError("params_invalid", f"$.certificates.{slot}.challenge")
        try:
            return await self._session.run(self._with_pin, _reference(slot), pin, work)
        except ValueError:
            raise DecodeError("params_invalid", f"$.certificates.{slot}.challenge") from None

    # --- in the card's thread

    def _with_pin(
        self,
        card: CardConnection,
        slot: int,
        pin: bytearray,
        work: Callable[[CardConnection, int, PublicKey], T],
    ) -> T:
        """Use a key: the PIN goes before it where it hasn't yet, and before each use of the signature key.

        Other keys may want it each time, too, and some cards forget a PIN that was right, with the use of a key, with
        any command that comes between or after a while: those say so, and it goes again. Which they are isn't asked
        for: that would cost every other key a command. A card that has forgotten it with the signature key does so
        each time.
        """
        public, policy = self._key(card, slot), self._policies.get(slot, USUAL).pin
        each = slot == SIGNATURE or policy is PinPolicy.ALWAYS
        holds = self._fresh if each else self._verified and not (self._signed and self._forgets)
        free = slot == CARD_AUTHENTICATION and policy is PinPolicy.DEFAULT
        if not (free or holds):
            self._verify(card, pin)
        try:
            return self._used(card, slot, public, work)
        except InlayError as error:
            if error.code != "card_pin_needed":
                raise
        self._forgets = self._forgets or self._signed
        self._verify(card, pin)
        try:
            return self._used(card, slot, public, work)
        except InlayError as error:
            # the same status stands for both, and the PIN was right
            if error.code != "card_pin_needed" or not self._wants_touch(card, slot):
                raise
            raise InlayError("card_not_touched", slot=slot_name(slot)) from None

    def _wants_touch(self, card: CardConnection, slot: int) -> bool:
        ordered = self._policies.get(slot, USUAL)
        known = piv_policies.told(card, slot) if ordered.touch is TouchPolicy.DEFAULT else ordered
        return known is not None and known.touch in (TouchPolicy.ALWAYS, TouchPolicy.CACHED)

    def _used(
        self,
        card: CardConnection,
        slot: int,
        public: PublicKey,
        work: Callable[[CardConnection, int, PublicKey], T],
    ) -> T:
        self._fresh = False
        result = work(card, slot, public)
        self._signed = self._signed or slot == SIGNATURE
        return result

    def _verify(self, card: CardConnection, pin: bytearray) -> None:
        if self._pad is not None:
            self._verified = self._fresh = False
            self._pad.verify(card)
            self._verified, self._fresh, self._signed = True, True, False
            return
        mark = hmac.digest(self._salt, bytes(pin), hashlib.sha256)
        if mark in self._refused:
            raise self._refused[mark]
        try:
            piv_pin.verify(card, pin)
        except InlayError as error:
            self._verified = self._fresh = False
            if error.code in ("card_pin_wrong", "card_pin_blocked", "card_pin_form"):
                self._refused[mark] = error
            raise
        self._verified, self._fresh, self._signed = True, True, False

    def _key(self, card: CardConnection, slot: int) -> PublicKey:
        """A slot's public key: as it was made or imported, as the card tells, or as its certificate has it."""
        if slot not in self._public:
            self._public[slot] = _present_key(card, slot)
        return self._public[slot]

    def _certificate(self, card: CardConnection, slot: int) -> bytes | None:
        der = piv_objects.read_certificate(card, slot)
        public = _key_in(der)
        if public is not None:
            self._public.setdefault(slot, public)
        return der

    def _write(self, card: CardConnection, slot: str, der: bytes) -> None:
        reference = _reference(slot)
        certified = key_in(der)
        if certified is None or _spki(certified) != _spki(self._key(card, reference)):
            raise InlayError("card_check_failed", slot=slot)
        piv_objects.write_certificate(card, reference, der, self._displaced)
        if piv_objects.read_certificate(card, reference) != der:
            raise InlayError("card_check_failed", slot=slot)


def _facts(card: CardConnection) -> PivCardFacts:
    chuid = piv_objects.read_chuid(card)
    certificates = {slot: piv_objects.read(card, CERTIFICATES[slot]) for slot in SLOTS}
    read = {slot: piv_objects.certificate_in(content) for slot, content in certificates.items() if content}
    return PivCardFacts(
        guid=None if chuid is None else chuid.guid.hex(),
        certificates={slot_name(slot): der for slot, der in read.items() if der is not None},
        pin_tries=piv_pin.tries_left(card),
        puk_tries=piv_pin.tries_left(card, PUK),
    )


def _present_key(card: CardConnection, slot: int) -> PublicKey:
    """As the card tells, or its certificate; what it tells and nobody can read counts when nothing else tells."""
    unread = None
    try:
        told = piv_keys.metadata(card, slot)
    except InlayError as error:
        if error.code != "card_answer_malformed":
            raise
        told, unread = None, error
    if told is not None and told.public is not None:
        return told.public
    public = _key_in(piv_objects.read_certificate(card, slot))
    if public is None:
        raise unread or InlayError("card_key_missing", slot=slot_name(slot))
    return public


def _key_in(der: bytes | None) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None:
    """The key of a certificate; None when there is none, or none that PIV has a number for."""
    public = None if der is None else key_in(der)
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return None
    try:
        piv_keys.algorithm_of(public)
    except ValueError:
        return None
    return public


def _signing(message: bytes) -> Callable[[CardConnection, int, PublicKey], bytes]:
    def work(card: CardConnection, slot: int, public: PublicKey) -> bytes:
        algorithm = piv_keys.algorithm_of(public)
        if algorithm is KeyAlgorithm.P_384:
            return piv_use.use(card, slot, algorithm, hashlib.sha384(message).digest())
        return piv_use.sign_sha256(card, slot, algorithm, message)

    return work


def _decrypting(ciphertext: bytes) -> Callable[[CardConnection, int, PublicKey], bytes]:
    def work(card: CardConnection, slot: int, public: PublicKey) -> bytes:
        if not isinstance(public, rsa.RSAPublicKey) or len(ciphertext) != public.key_size // 8:
            raise ValueError(slot)
        padded = piv_use.use(card, slot, piv_keys.algorithm_of(public), ciphertext)
        return public_keys.oaep_message(padded, len(ciphertext))

    return work


def _agreeing(point: bytes) -> Callable[[CardConnection, int, PublicKey], bytes]:
    def work(card: CardConnection, slot: int, public: PublicKey) -> bytes:
        if isinstance(public, rsa.RSAPublicKey):
            raise ValueError(slot)  # noqa: TRY004 - the challenge is wrong for this key, not the type of a call
        return piv_use.agree(card, slot, piv_keys.algorithm_of(public), point)

    return work


def _reference(slot: str) -> int:
    return int(slot, 16)


def _spki(public: object) -> bytes:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    der: bytes = public.public_bytes(*form)  # type: ignore[attr-defined]
    return der
