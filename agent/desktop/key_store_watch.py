"""Follows the system's key store (``org.freedesktop.secrets`` on the session bus), by its signals alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from agent.desktop.bus import Bus, BusError, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger(__name__)

_SERVICE: Final = "org.freedesktop.secrets"


class KeyStoreWatch:
    """See `agent.session_ports.KeyStoreWatching`."""

    def __init__(self, bus: str = "SESSION") -> None:
        """Prepare; `start` begins.

        Args:
            bus: ``SESSION``, or a bus address.
        """
        self._address = bus
        self._bus: Bus | None = None

    async def start(self, changed: Callable[[], None]) -> bool:
        """See `agent.session_ports.KeyStoreWatching`."""
        if self._bus is not None and not self._bus.ended.is_set():
            return False
        await self.close()

        def heard(_signal: Signal) -> None:
            changed()  # what it says is never believed: whoever is told looks for himself

        try:
            self._bus = await Bus.open(self._address, heard)
            await self._bus.follow(_SERVICE)
        except BusError:
            await self.close()
            _LOG.warning("an unlocked key store isn't noticed: no session bus")
            return False
        return True

    async def close(self) -> None:
        """See `agent.session_ports.KeyStoreWatching`."""
        bus, self._bus = self._bus, None
        if bus is not None:
            await bus.close()
