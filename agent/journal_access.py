"""The journal, opened when it is first needed: what seals it may be locked away when the agent starts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from agent.journal import Journal
from agent.journal_cards import JournalledCard, read_cards

if TYPE_CHECKING:
    from pathlib import Path

    from agent.device import Device


class JournalAccess:
    """Opens the one journal once. May block on the key store: call `get` from a worker thread."""

    def __init__(self, path: Path, device: Device) -> None:
        """Open ``path``, sealed under the device's secret."""
        self._path = path
        self._device = device
        self._lock = threading.Lock()
        self._journal: Journal | None = None

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._path

    def get(self) -> Journal:
        """The open journal.

        Raises:
            InlayError: the device secret can't be had.
            JournalUnusableError: the file can't be used.
        """
        with self._lock:
            if self._journal is None:
                self._journal = Journal(self._path, self._device.sealer("journal"))
            return self._journal

    def cards(self) -> dict[str, JournalledCard]:
        """Where this machine's cards come from; told by a journal that is locked away, too. Asks nobody.

        Raises:
            JournalUnusableError: the file can't be used.
        """
        locked = self._device.open_unasked()
        return self.get().cards() if locked is None else read_cards(self._path)

    def close(self) -> None:
        """Close it, when it was opened."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None
