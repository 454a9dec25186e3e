"""What the owner of a card may do with it on this machine: look at it, change its PIN, unblock it, delete it.

Everything that changes a card runs in that card's own worker, whether or not other programs use the card meanwhile;
afterwards the card is as before or changed, whatever was killed in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from agent.card_copies import CardCopies
from agent.card_ports import CardStanding, KnownCard
from agent.card_signature import card_signature, certificate_in
from agent.long_pin import card_pin
from agent.made_card import facts_of
from agent.pin_rules import LONGEST_PIN, PIV_PIN_BYTES, PinRules, effective_maximum, plain_rules
from agent.vsc.personalise import CardRefused, sign_digest
from agent.vsc.pin_change import change_pin, unblock_pin, verify_pin
from agent.vsc.state import Lifecycle
from protocol.errors import InlayError
from protocol.messages import StorageLevel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.card_places import CardPlaces
    from agent.card_shelf import ShelvedCard
    from agent.cards import VirtualCards
    from agent.device import Device
    from agent.journal_access import JournalAccess
    from agent.journal_cards import JournalledCard
    from agent.made_card import MadeCard
    from agent.virtual_card_ports import CardFacts, Shown
    from agent.vsc.card import VirtualCard
    from protocol.messages import CardSignature


class CardCare:
    """See `agent.card_ports.CardKeeping`."""

    def __init__(
        self, cards: VirtualCards, places: CardPlaces, journal: JournalAccess, device: Device
    ) -> None:
        """Work on these cards, in these readers."""
        self._cards = cards
        self._copies = CardCopies(cards.copies, cards, device)
        self._places = places
        self._journal = journal
        self._device = device

    async def known(self) -> list[KnownCard]:
        """See `agent.card_ports.CardKeeping`."""
        records = await asyncio.to_thread(self._records)
        return [_known(entry, records.get(entry.card_id)) for entry in await self._cards.entries()]

    async def standing(self, card: str) -> CardStanding:
        """See `agent.card_ports.CardKeeping`."""

        def look(found: VirtualCard) -> CardStanding:
            return _standing(found, self._records().get(card))

        return await self._cards.use(card, look)

    async def where(self, card: str) -> Shown:
        """See `agent.card_ports.CardKeeping`."""
        return await self._places.where(card)

    async def change_pin(self, card: str, old: bytearray, new: bytearray) -> None:
        """See `agent.card_ports.CardKeeping`."""

        def change(found: VirtualCard) -> None:
            with self._held(found, old) as held, self._held(found, new) as wanted:
                change_pin(found, held, wanted)

        await self._cards.use(card, change)

    async def unblock(self, card: str, puk: bytearray, new: bytearray) -> None:
        """See `agent.card_ports.CardKeeping`."""

        def unblock(found: VirtualCard) -> None:
            with self._held(found, new) as wanted:
                unblock_pin(found, puk, wanted)

        await self._cards.use(card, unblock)

    async def delete(self, card: str) -> None:
        """See `agent.card_ports.CardKeeping`."""
        await self._cards.delete(card)

    async def check_pin(self, card: str, pin: bytearray) -> None:
        """See `agent.card_ports.CardKeeping`."""

        def check(found: VirtualCard) -> None:
            with self._held(found, pin) as held:
                verify_pin(found, held)

        await self._cards.use(card, check)

    async def sign(self, card: str, slot: str, digest: bytes, pin: bytearray) -> CardSignature:
        """See `agent.card_ports.CardKeeping`."""

        def sign(found: VirtualCard) -> CardSignature:
            certificates = {item.slot: item.certificate for item in facts_of(found).certificates}
            certificate = certificate_in(certificates, slot)
            with self._held(found, pin) as held:
                try:
                    return card_signature(certificate, sign_digest(found, int(slot, 16), digest, held))
                except CardRefused as refused:
                    if refused.tries_left is None:
                        raise
                    tries = refused.tries_left
            raise InlayError("pin_wrong", tries=tries) if tries else InlayError("pin_blocked")

        return await self._cards.use(card, sign)

    async def copy(self, portal: str, jti: str, card: str) -> MadeCard:
        """See `agent.card_ports.CardKeeping`."""
        return await self._copies.make(portal, jti, card)

    async def take_on(
        self, portal: str, jti: str, card: str, expires: int, *, new_pin: bool = False
    ) -> tuple[CardFacts, Shown]:
        """See `agent.card_ports.CardKeeping`."""
        await self._places.hide(card)  # what other programs have read of it is no longer so
        try:
            await self._copies.take_on(portal, jti, card, new_pin=new_pin)
            await asyncio.to_thread(lambda: self._journal.get().extend_card(card, expires))
            facts = await self._cards.use(card, facts_of)
        finally:
            shown = await self._cards.show(card)
        return facts, shown

    async def drop_copy(self, portal: str, jti: str) -> None:
        """See `agent.card_ports.CardKeeping`."""
        await self._copies.drop(portal, jti)

    def _records(self) -> dict[str, JournalledCard]:
        return self._journal.cards()

    @contextlib.contextmanager
    def _held(self, card: VirtualCard, typed: bytearray) -> Iterator[bytearray]:
        """A PIN as the card takes it, wiped afterwards: a long one becomes the eight characters that stand for it.

        Raises:
            InlayError: ``pin_refused``: the card can't take one of the values, and was asked nothing.
        """
        secret = self._device.secret(StorageLevel(card.details().level))
        held = card_pin(secret, card.card_id, typed)
        try:
            yield held
        except ValueError:
            raise InlayError("pin_refused") from None
        finally:
            held[:] = bytes(len(held))


def _known(entry: ShelvedCard, record: JournalledCard | None) -> KnownCard:
    state = entry.state
    return KnownCard(
        card=entry.card_id,
        label=None if state is None else state.label,
        serial=None if state is None else str(int.from_bytes(state.serial, "big")),
        guid=None if state is None else state.guid.hex(),
        active=state is not None and state.lifecycle is Lifecycle.ACTIVE,
        account=None if record is None else record.account,
        portal=None if record is None else record.portal,
        error=entry.error,
    )


def _standing(card: VirtualCard, record: JournalledCard | None) -> CardStanding:
    details = card.details()
    policy = None if record is None else record.policy
    rules = PinRules() if policy is None else plain_rules(policy)
    # of a card whose rules weren't written down nobody knows whether its PIN is a long one
    longest = LONGEST_PIN if policy is None else max(PIV_PIN_BYTES, effective_maximum(rules))
    return CardStanding(
        facts=facts_of(card),
        record=record,
        pin_tries=details.pin_tries,
        puk_tries=details.puk_tries,
        made_keys=frozenset(f"{slot.slot:02X}" for slot in details.slots if slot.generated),
        rules=rules,
        longest_pin=longest,
        pin_mark=card.pin_mark,
    )
