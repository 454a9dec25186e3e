"""What may be shown of a virtual card."""

from __future__ import annotations

from dataclasses import dataclass

from agent.vsc import objects
from agent.vsc.state import Lifecycle, PersistentState


@dataclass(frozen=True, slots=True)
class SlotDetails:
    """A key on the card and its certificate.

    Attributes:
        slot: key reference.
        algorithm: ``RSA-2048``, ``P-256`` and so on; see `commands.Algorithm.label`.
        public: SubjectPublicKeyInfo, DER.
        generated: made on the card, or imported.
        certificate: DER, or None when there is none yet.
    """

    slot: int
    algorithm: str
    public: bytes
    generated: bool
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class CardDetails:
    """What may be shown of a card.

    Attributes:
        card_id: name in the store.
        label: the profile's name.
        serial: decimal, 1 to 10 digits, as Yubico's tools print it.
        guid: GUID of the CHUID, 32 hexadecimal digits.
        level: ``keystore`` or ``file``.
        lifecycle: being made, or active.
        generation: how often it was saved; goes up only.
        pin_tries: PIN tries left.
        puk_tries: PUK tries left.
        slots: keys in the order of their slots.
    """

    card_id: str
    label: str
    serial: str
    guid: str
    level: str
    lifecycle: Lifecycle
    generation: int
    pin_tries: int
    puk_tries: int
    slots: tuple[SlotDetails, ...]


def slot_details(state: PersistentState, slot: int) -> SlotDetails:
    """A key of a card, by its state.

    Raises:
        KeyError: there is none in the slot.
    """
    key = state.slots[slot]
    stored = state.objects.get(objects.CERTIFICATE_TAGS[slot])
    certificate = None if stored is None else objects.certificate_in(stored)
    return SlotDetails(slot, key.algorithm.label, key.public, key.generated, certificate)
