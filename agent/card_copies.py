"""Copies of cards that orders work on, while the card itself stays as it is and in use.

A copy lies in a folder of its order, so that it is found again after a restart, and is taken on by the card in one
write: killed at any moment there is the old card or the new one. Undoing the order is removing the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from typing import TYPE_CHECKING

from agent.durable import sync_folder
from agent.long_pin import card_pin
from agent.made_card import MadeCard
from protocol.messages import StorageLevel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any, TypeVar

    from agent.cards import VirtualCards
    from agent.device import Device
    from agent.vsc.card import VirtualCard

    T = TypeVar("T")


class CardCopies:
    """The copies of this user's cards."""

    def __init__(self, folder: Path, cards: VirtualCards, device: Device) -> None:
        """Use a folder below the agent's state; made when it is needed."""
        self._folder = folder
        self._cards = cards
        self._device = device

    async def make(self, portal: str, jti: str, card: str) -> MadeCard:
        """Copy a card for an order; a copy that is there already begins anew.

        Raises:
            InlayError: ``card_unknown`` …, ``card_write_failed``.
        """
        folder = self._of(portal, jti)
        copy = await self._cards.use(card, lambda found: _copied(found, folder))
        level = StorageLevel(copy.details().level)
        secret = await asyncio.to_thread(self._device.secret, level)

        async def worker(function: Callable[..., T], *arguments: Any) -> T:
            return await self._cards.use(card, lambda _: function(*arguments))

        return MadeCard(copy, worker, lambda typed: card_pin(secret, card, typed))

    async def take_on(self, portal: str, jti: str, card: str, *, new_pin: bool = False) -> None:
        """Have a card take on its copy, and remove that; harmless when it was done before.

        Raises:
            InlayError: ``card_unknown`` …, ``card_damaged``, ``card_write_failed``; the card is as it was.
        """
        folder = self._of(portal, jti)
        if await asyncio.to_thread(folder.is_dir):
            await self._cards.use(card, lambda found: found.adopt(folder, new_pin=new_pin))
            await self.drop(portal, jti)

    async def drop(self, portal: str, jti: str) -> None:
        """Remove an order's copy; harmless when there is none.

        Raises:
            OSError: the disk refused.
        """
        await asyncio.to_thread(self._drop, self._of(portal, jti))

    def _of(self, portal: str, jti: str) -> Path:
        return self._folder / hashlib.sha256(f"{portal}\0{jti}".encode()).hexdigest()[:32]

    def _drop(self, folder: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
            sync_folder(self._folder)


def _copied(card: VirtualCard, folder: Path) -> VirtualCard:
    """Copy a card's file; the folders are on the disk before it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    sync_folder(folder.parent)
    sync_folder(folder.parent.parent)
    return card.copy_to(folder)
