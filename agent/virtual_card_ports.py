"""The seams between orders and this user's virtual cards: what is made, shown, and said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from agent.order_ports import KeyedCard
from protocol.errors import InlayError
from protocol.messages import Algorithm, CardGeneration, PinPolicy, StorageLevel

if TYPE_CHECKING:
    import datetime


@dataclass(frozen=True, slots=True)
class CardOwner:
    """Whose card it is, and until when.

    Attributes:
        portal: the portal that ordered it.
        jti: in which order.
        account: for whom, as the portal writes it.
        expires: seconds since 1970.
    """

    portal: str
    jti: str
    account: str
    expires: int


@dataclass(frozen=True, slots=True)
class SlotCertificate:
    """A certificate on a card: key reference in hexadecimal, and DER."""

    slot: str
    certificate: bytes


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What may be said of a card.

    Attributes:
        card: name of its file.
        label: the profile's name.
        serial: decimal.
        guid: GUID of the CHUID, 32 hexadecimal digits.
        generation: how often its file was saved; goes up only.
        level: how its keys are kept.
        certificates: in the order of their slots.
    """

    card: str
    label: str
    serial: str
    guid: str
    generation: int
    level: StorageLevel
    certificates: tuple[SlotCertificate, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """How a card stands in a reader.

    Attributes:
        reader: the reader's PC/SC name; None when it isn't in one.
        problem: why it isn't.
    """

    reader: str | None
    problem: InlayError | None = None


class CardInProgress(KeyedCard, Protocol):
    """A card that is being made in this process, and shown to nobody yet."""

    @property
    def facts(self) -> CardFacts:
        """What may be said of it now."""

    async def set_pin(self, puk: bytearray, pin: bytearray) -> None:
        """Set a new PIN by the PUK."""

    async def extend(self, expires: datetime.date) -> None:
        """Write another last day on the card."""


class Cards(Protocol):
    """This user's virtual cards."""

    async def levels(self) -> list[StorageLevel]:
        """Levels at which keys can be kept now, best first."""

    def algorithms(self, level: StorageLevel) -> frozenset[Algorithm]:
        """What keys a level can make and take."""

    def card_name(self, owner: CardOwner) -> str:
        """Name of the card of an order: the same for the same order, so that it can always be found."""

    async def make(
        self,
        owner: CardOwner,
        level: StorageLevel,
        label: str,
        pin: bytearray,
        puk: bytearray,
        policy: PinPolicy | None = None,
    ) -> CardInProgress:
        """Make a card without keys, recorded before it is made, with the rules that its PIN was chosen by."""

    async def remove(self, owner: CardOwner) -> None:
        """Remove an order's card and everything that was recorded of it; harmless when there is none."""

    async def activate(self, owner: CardOwner) -> CardFacts:
        """Mark an order's card active; harmless when it is.

        Raises:
            InlayError: ``card_unknown`` …
        """

    async def show(self, card: str) -> Shown:
        """Put an active card into a reader and check that PC/SC shows that very card."""

    async def generations(self, portal: str) -> list[CardGeneration]:
        """What a portal may know of the cards it has ordered: how often each one's file was saved."""

    async def overview(self) -> list[dict[str, Any]]:
        """All cards, as ``inlay cards --json`` has them."""

    def notes(self) -> list[InlayError]:
        """What the person should know of their cards as a whole."""

    async def lost(self) -> dict[str, Any]:
        """What a lost secret of this device takes with it.

        Raises:
            InlayError: ``nothing_lost``, ``keystore_locked``.
        """

    async def start_over(self) -> dict[str, Any]:
        """Put that aside, deleting nothing, and begin anew."""
