"""The seam between the person's card commands, the portal's orders about existing cards, and the cards themselves."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.journal_cards import JournalledCard
    from agent.pin_rules import PinRules
    from agent.virtual_card_ports import CardFacts, CardInProgress, Shown
    from protocol.messages import CardSignature

PASSING: Final = frozenset({"keystore_locked", "keystore_missing"})
"""What a card comes back from by itself."""


@dataclass(frozen=True, slots=True)
class KnownCard:
    """A card of this user, as one may be chosen.

    Attributes:
        card: name of its file.
        label: the profile's name; None when the file can't be read.
        serial: decimal; None when the file can't be read.
        guid: 32 hexadecimal digits; None when the file can't be read.
        active: it can be used.
        account: whose it is, as the portal writes it; None when that isn't recorded.
        portal: the portal that ordered it; None when that isn't recorded.
        error: why its file can't be read.
    """

    card: str
    label: str | None
    serial: str | None
    guid: str | None
    active: bool
    account: str | None
    portal: str | None
    error: InlayError | None = None

    def answers_to(self, name: str) -> bool:
        """Whether a person's word for a card means this one: serial, GUID, label, or the file's name."""
        return name in (self.card, self.label, self.serial) or name.lower() == self.guid


@dataclass(frozen=True, slots=True)
class CardStanding:
    """How an active card stands.

    Attributes:
        facts: what is on it.
        record: where it comes from; None when that isn't recorded.
        pin_tries: PIN tries left, 0 is blocked.
        puk_tries: PUK tries left, 0 is blocked for good.
        made_keys: slots whose keys were made on the card: no copy of them is anywhere else.
        rules: the rules that a new PIN has to keep.
        longest_pin: bytes that its PIN may have now.
        pin_mark: tells its PIN from the one before; 16 hexadecimal digits.
    """

    facts: CardFacts
    record: JournalledCard | None
    pin_tries: int
    puk_tries: int
    made_keys: frozenset[str]
    rules: PinRules
    longest_pin: int
    pin_mark: str

    @property
    def expires(self) -> datetime.date | None:
        """The day its validity ends."""
        if self.record is None:
            return None
        return datetime.datetime.fromtimestamp(self.record.expires, datetime.UTC).date()


class CardKeeping(Protocol):
    """What the person's commands and the portal's orders need of existing cards.

    A card is named by its file. A PIN belongs to the caller, who wipes it. All but `known` raise ``card_unknown``,
    ``card_not_active`` or why the card can't be used.
    """

    async def known(self) -> list[KnownCard]:
        """All cards of this user; touches no reader."""

    async def standing(self, card: str) -> CardStanding:
        """How a card stands now."""

    async def where(self, card: str) -> Shown:
        """In which reader a card is, or why in none."""

    async def change_pin(self, card: str, old: bytearray, new: bytearray) -> None:
        """Replace the PIN by a new one.

        Raises:
            InlayError: ``pin_wrong``, ``pin_blocked``, ``pin_refused`` (no try was spent), ``card_write_failed``.
        """

    async def unblock(self, card: str, puk: bytearray, new: bytearray) -> None:
        """Set a new PIN by the PUK.

        Raises:
            InlayError: ``puk_wrong``, ``puk_blocked``, ``pin_refused`` (no try was spent), ``card_write_failed``.
        """

    async def delete(self, card: str) -> None:
        """Remove a card, readable or not, with its keys; harmless when there is none."""

    async def check_pin(self, card: str, pin: bytearray) -> None:
        """Compare the PIN, at the price of a try where it is wrong; a right one gives all tries back.

        Raises:
            InlayError: ``pin_wrong``, ``pin_blocked``, ``pin_refused`` (no try was spent), ``card_write_failed``.
        """

    async def sign(self, card: str, slot: str, digest: bytes, pin: bytearray) -> CardSignature:
        """Sign a SHA-256 digest with a key that has a certificate; a PIN that was right a moment ago.

        Raises:
            InlayError: ``card_key_missing``: there is no such key, no certificate of it, or none that signs;
                ``pin_wrong``, ``pin_blocked``.
        """

    async def copy(self, portal: str, jti: str, card: str) -> CardInProgress:
        """Copy a card for an order to work on; the card stays as it is, and in use."""

    async def take_on(
        self, portal: str, jti: str, card: str, expires: int, *, new_pin: bool = False
    ) -> tuple[CardFacts, Shown]:
        """Have a card take on its order's copy in one write, and show it to other programs anew; harmless when it has.

        Args:
            portal: whose order.
            jti: the order.
            card: the card.
            expires: until when it is valid now, seconds since 1970.
            new_pin: with the PIN that was set on the copy.

        Raises:
            InlayError: ``card_damaged``, ``card_write_failed``: the card is as it was.
        """

    async def drop_copy(self, portal: str, jti: str) -> None:
        """Remove an order's copy; harmless when there is none."""


def ordered_card(cards: list[KnownCard], guid: str, portal: str) -> KnownCard:
    """The card that a portal's order is about: one that this portal has ordered here.

    Raises:
        InlayError: ``card_elsewhere``, ``card_of_other_portal``, ``card_not_active``; ``keystore_locked`` …: it may be
            one that can't be looked into now.
    """
    for card in cards:
        if card.guid == guid:
            if card.portal != portal:
                raise InlayError("card_of_other_portal")
            if not card.active:
                raise InlayError("card_not_active")
            return card
    shut = closed_card(cards, portal)
    raise InlayError("card_elsewhere", guid=guid) if shut is None else shut


def closed_card(cards: list[KnownCard], portal: str) -> InlayError | None:
    """Why one of a portal's cards can't be looked into now, and could be later; None when all can, or never will."""
    errors = (card.error for card in cards if card.portal == portal)
    return next((error for error in errors if error is not None and error.code in PASSING), None)


def the_card(cards: list[KnownCard], name: str) -> KnownCard:
    """The card that a person's word means.

    Raises:
        InlayError: ``card_unknown``, ``card_ambiguous``.
    """
    found = [card for card in cards if card.answers_to(name)]
    if not found:
        raise InlayError("card_unknown", card=name[:40])
    if len(found) > 1:
        raise InlayError("card_ambiguous", count=len(found))
    return found[0]
