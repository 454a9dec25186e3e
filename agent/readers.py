"""The machine's readers, for people and pages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.pcsc import scard
from protocol.messages import Reader, ReadersParams

if TYPE_CHECKING:
    from pathlib import Path

    from agent.reader_watch import ReaderWatch, Seen, Watcher
    from protocol.messages import ComputerFinding

_MAX_NAME: Final = 200
_MAX_READERS: Final = 64


class PcscReaders:
    """See ``agent.order_ports.Readers``."""

    def __init__(self, watch: ReaderWatch, machine: Path) -> None:
        """Use the agent's one watch, and the administrator's folder."""
        self._watch = watch
        self._machine = machine
        self._checking = asyncio.Lock()

    async def list_readers(self) -> list[Reader]:
        """All readers.

        Raises:
            InlayError: ``pcsc_no_service``, ``pcsc_refused``, ``pcsc_failed``.
        """
        found = await asyncio.to_thread(scard.list_readers)
        return [
            Reader(name=item.name[:_MAX_NAME], card_present=item.present, atr=item.atr.hex().upper())
            for item in found
        ]

    async def check(self) -> list[ComputerFinding]:
        """What the doctor finds; one look at a time, however many pages ask."""
        from agent.doctor import page_view  # an agent that nobody asks doesn't carry the doctor

        async with self._checking:
            return await asyncio.to_thread(page_view.examine, self._machine)

    async def watch(self) -> Feed:
        """Begin to watch; close the feed in the end."""
        return Feed(await self._watch.watch())


class Feed:
    """See ``agent.order_ports.ReaderFeed``."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    async def next(self) -> ReadersParams:
        """How the readers stand, as a page may know it."""
        return _shown(await self._watcher.next())

    async def close(self) -> None:
        """Watch no more."""
        await self._watcher.close()


def _shown(seen: Seen) -> ReadersParams:
    readers = [
        Reader(
            name=item.name[:_MAX_NAME],
            card_present=item.present,
            atr=item.atr.hex().upper(),
            mute=item.mute,
            exclusive=item.exclusive,
            insertions=seen.insertions.get(item.name, 0),
        )
        for item in seen.look.readers[:_MAX_READERS]
    ]
    return ReadersParams(readers=readers, service=seen.look.problem is None)
