"""The files of this user's cards: one folder for each storage level, and what stands in the way of using a file.

Everything here may block on the disk, and what opens a store on the key store: call it from a worker thread.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from agent.keys_system import FileLevelRefused
from agent.vsc import store
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore, CardUnknown
from protocol.errors import InlayError
from protocol.messages import StorageLevel

if TYPE_CHECKING:
    from pathlib import Path

    from agent.device import Device
    from agent.vsc.state import PersistentState


class ShelvedCard(NamedTuple):
    """A card's file as it lies on the disk now.

    Attributes:
        card_id: the card.
        level: how it is kept.
        state: what is in the file; None when it can't be read.
        error: why it can't: the file's own fault, or that its whole level is shut.
    """

    card_id: str
    level: StorageLevel
    state: PersistentState | None
    error: InlayError | None


class CardShelf:
    """All card files of this user."""

    def __init__(self, folder: Path, device: Device) -> None:
        """Use a folder, and the secrets that its cards are under."""
        self._folder = folder
        self._device = device

    def store(self, level: StorageLevel) -> CardStore:
        """A level's cards. The key store may ask the person to unlock it.

        Raises:
            InlayError: ``keystore_locked``, ``keystore_missing``, ``device_secret_lost`` …
        """
        return CardStore(self._folder / level.value, self._device.secret(level))

    def look(self) -> list[ShelvedCard]:
        """Every card, those of a level that is shut by name. Asks nobody to unlock anything."""
        found: list[ShelvedCard] = []
        for level in self._levels_in_use():
            folder = self._folder / level.value
            try:
                opened = CardStore(folder, self._device.secret_unasked(level))
            except InlayError as cause:
                error = InlayError("secret_file_refused") if isinstance(cause, FileLevelRefused) else cause
                found += [ShelvedCard(name, level, None, error) for name in store.card_names(folder)]
            else:
                entries = opened.list_cards()
                found += [ShelvedCard(item.card_id, level, item.state, item.error) for item in entries]
        return found

    def load(self, card_id: str) -> VirtualCard:
        """Load a card, from the level where its file is.

        Raises:
            InlayError: ``card_unknown``; as `store`, and those of `agent.vsc.store`.
        """
        for level in self._levels_in_use():
            if card_id in store.card_names(self._folder / level.value):
                return VirtualCard.load(self.store(level), card_id)
        raise CardUnknown(card_id)

    def delete(self, card_id: str) -> None:
        """Remove a card's file, at whatever level; harmless when there is none. Needs no secret.

        Raises:
            InlayError: ``card_write_failed``: the disk refused.
        """
        for level in self._levels_in_use():
            with contextlib.suppress(CardUnknown):
                store.delete_card(self._folder / level.value, card_id)

    def sweep(self) -> None:
        """At start, before anything is written: remove what a cut in the middle of a write left behind."""
        for level in self._levels_in_use():
            store.sweep(self._folder / level.value)

    def _levels_in_use(self) -> list[StorageLevel]:
        return [level for level in StorageLevel if (self._folder / level.value).is_dir()]
