"""The machine's readers, for people and pages."""

from __future__ import annotations

import asyncio

from agent.pcsc import scard
from protocol.messages import Reader


class PcscReaders:
    """See ``agent.order_ports.Readers``."""

    async def list_readers(self) -> list[Reader]:
        """All readers.

        Raises:
            InlayError: ``pcsc_no_service``, ``pcsc_failed``.
        """
        found = await asyncio.to_thread(scard.list_readers)
        return [
            Reader(name=item.name[:200], card_present=item.present, atr=item.atr.hex().upper())
            for item in found
        ]
