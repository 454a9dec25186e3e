"""A card that an order is making: the engine's own commands behind ``agent.virtual_card_ports.CardInProgress``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cryptography.hazmat.primitives import serialization

from agent.certificates import key_in
from agent.virtual_card_ports import CardFacts, SlotCertificate
from agent.vsc import personalise
from agent.vsc.commands import Algorithm as CardAlgorithm
from agent.vsc.pin_change import unblock_pin
from protocol.errors import DecodeError, InlayError
from protocol.messages import Algorithm, CertificateRequest, StorageLevel

if TYPE_CHECKING:
    import datetime
    from collections.abc import Awaitable, Callable

    from agent.vsc.card import VirtualCard
    from protocol.messages import Challenge

T = TypeVar("T")

_ALGORITHMS: Final = {
    Algorithm.RSA_2048: CardAlgorithm.RSA_2048,
    Algorithm.P_256: CardAlgorithm.P_256,
}


class Worker(Protocol):
    """Runs a function in the card's own thread."""

    def __call__(self, function: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run it, after all that was begun before."""


class MadeCard:
    """See ``agent.virtual_card_ports.CardInProgress``."""

    def __init__(
        self, card: VirtualCard, worker: Worker, held: Callable[[bytearray], bytearray] = bytearray
    ) -> None:
        """Use a card that exists, its worker thread, and what turns a typed PIN into the one it holds."""
        self._card = card
        self._worker = worker
        self._held = held

    @property
    def facts(self) -> CardFacts:
        """What may be said of it now."""
        return facts_of(self._card)

    async def generate(self, slot: str, algorithm: Algorithm) -> None:
        """Make a key in a slot."""
        await self._worker(personalise.generate, self._card, _reference(slot), _ALGORITHMS[algorithm])

    async def request(self, slot: str, subject: str, pin: bytearray, *, signs: bool) -> CertificateRequest:
        """Ask for a certificate.

        Raises:
            DecodeError: ``order_malformed``: the subject is none.
        """
        if not signs:
            key = personalise.public_key(self._card, _reference(slot))
            return CertificateRequest(slot=slot, public_key=_spki(key))
        asking = self._worker(
            personalise.certificate_request, self._card, _reference(slot), subject, self._held(pin)
        )
        try:
            csr = await asking
        except ValueError:
            raise DecodeError("order_malformed", f"$.parameters.keys.{slot}.subject") from None
        return CertificateRequest(slot=slot, csr=csr)

    async def set_pin(self, puk: bytearray, pin: bytearray) -> None:
        """Set a new PIN by the PUK.

        Raises:
            InlayError: ``puk_wrong``, ``puk_blocked``, ``pin_refused``, ``card_write_failed``.
        """
        held = self._held(pin)
        try:
            await self._worker(unblock_pin, self._card, puk, held)
        except ValueError:
            raise InlayError("pin_refused") from None
        finally:
            held[:] = bytes(len(held))

    async def extend(self, expires: datetime.date) -> None:
        """Write another last day on the card."""
        await self._worker(personalise.extend, self._card, expires)

    async def import_key(self, slot: str, pkcs8: bytearray) -> None:
        """Put a key that was made elsewhere into a slot."""
        await self._worker(personalise.import_key, self._card, _reference(slot), pkcs8)

    async def write_certificate(self, slot: str, der: bytes) -> None:
        """Write a certificate, read it back, and check that the slot's key is the certificate's.

        Raises:
            InlayError: ``card_check_failed``, ``recovered_key_invalid``, ``card_write_failed``.
        """
        await self._worker(self._write, slot, der)

    async def sign(self, slot: str, message: bytes, pin: bytearray) -> bytes:
        """Sign SHA-256 of a message."""
        return await self._worker(personalise.sign, self._card, _reference(slot), message, self._held(pin))

    async def answer(self, slot: str, challenge: Challenge, pin: bytearray) -> bytes:
        """The secret behind a challenge.

        Raises:
            DecodeError: ``params_invalid``: it is neither of the two kinds, or both.
        """
        function: Callable[[VirtualCard, int, bytes, bytearray], bytes]
        match challenge.ciphertext, challenge.ephemeral:
            case bytes() as ciphertext, None:
                function, data = personalise.decrypt_oaep, ciphertext
            case None, bytes() as point:
                function, data = personalise.agree, point
            case _:
                raise DecodeError("params_invalid", f"$.certificates.{slot}.challenge")
        return await self._worker(function, self._card, _reference(slot), data, self._held(pin))

    def _write(self, slot: str, der: bytes) -> None:
        reference = _reference(slot)
        key = key_in(der)
        if key is None:
            raise InlayError("card_check_failed", slot=slot)
        wanted = _spki(key)
        held = next((item for item in self._card.details().slots if item.slot == reference), None)
        if held is None or held.public != wanted:
            imported = held is not None and not held.generated
            raise InlayError("recovered_key_invalid" if imported else "card_check_failed", slot=slot)
        personalise.write_certificate(self._card, reference, der)
        if personalise.read_certificate(self._card, reference) != der:
            raise InlayError("card_check_failed", slot=slot)


def facts_of(card: VirtualCard) -> CardFacts:
    """What may be said of a card."""
    details = card.details()
    certificates = tuple(
        SlotCertificate(f"{item.slot:02X}", item.certificate)
        for item in details.slots
        if item.certificate is not None
    )
    return CardFacts(
        card=details.card_id,
        label=details.label,
        serial=details.serial,
        guid=details.guid,
        generation=details.generation,
        level=StorageLevel(details.level),
        certificates=certificates,
    )


def _reference(slot: str) -> int:
    return int(slot, 16)


def _spki(key: Any) -> bytes:
    der: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der
