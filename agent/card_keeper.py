"""Keeps cards where they belong while the agent runs, and catches up on what a locked key store held up.

Three things move cards: whether the person is there (screen lock, session switch, log-out), whether the key store
is open, and PC/SC itself, which `agent.card_places` follows. One task takes what changed and brings everything in
line with it, as often as it takes; nothing runs while nothing changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from agent.errors import as_inlay_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.card_places import CardPlaces
    from agent.cards import VirtualCards
    from agent.device import Device
    from agent.session_ports import KeyStoreWatching, SessionWatching
    from protocol.errors import InlayError

_LOG = logging.getLogger(__name__)

_KEY_STORE: Final = frozenset({"keystore_locked", "keystore_missing", "device_secret_lost"})
"""What a key store that is unlocked, started or restored mends."""
_LOOK_SECONDS: Final = 30.0
"""Seconds between looks at a key store that stands in the way: gnome-keyring tells when its own window unlocked it,
and not when a log-in did."""


class CardKeeper:
    """The one task."""

    def __init__(
        self,
        cards: VirtualCards,
        places: CardPlaces,
        device: Device,
        catch_up: Callable[[], Awaitable[None]],
        sessions: SessionWatching,
        key_store: KeyStoreWatching,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            cards: the cards.
            places: their readers.
            device: the secrets.
            catch_up: what is to be done once at start, as soon as the device's own secret is open.
            sessions: tells whether the person is there.
            key_store: tells when the key store changed.
        """
        self._cards = cards
        self._places = places
        self._device = device
        self._catch_up = catch_up
        self._sessions = sessions
        self._key_store = key_store
        self._absence: InlayError | None = None
        self._caught_up = False
        self._shut: str | None = None
        self._in_the_way = False
        self._change = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bring everything in line for the first time, and begin to follow."""
        await self._sessions.start(self._person)
        await self._bring_in_line()
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Follow no more; cards stay where they are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._sessions.close()
        await self._key_store.close()

    def _person(self, absence: InlayError | None) -> None:
        self._absence = absence
        self._change.set()

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if self._in_the_way else None):
                    await self._change.wait()
            self._change.clear()
            try:
                await self._bring_in_line()
            except Exception as cause:
                _LOG.error("cards can't be brought in line: %s", as_inlay_error(cause).code)

    async def _bring_in_line(self) -> None:
        absence = self._absence
        await (self._places.readmit() if absence is None else self._places.withdraw(absence))
        while not await self._open() and await self._key_store.start(self._change.set):
            continue  # it may have been unlocked before anybody listened

    async def _open(self) -> bool:
        """Catch up, and put cards into readers; False when the key store stands in the way."""
        shut = await asyncio.to_thread(self._device.open_unasked)
        code = None if shut is None else shut.code
        if code != self._shut:
            _LOG.warning("the device's secret: %s", code or "open")
            self._shut = code
        if shut is None and not self._caught_up:
            await self._catch_up()
            self._caught_up = True
        standings = await self._cards.attend()
        causes = {item.shelved.error.code for item in standings if item.shelved.error is not None}
        self._in_the_way = bool((causes | {code}) & _KEY_STORE)
        if not self._in_the_way:
            await self._key_store.close()
        return not self._in_the_way
