"""A new beginning where this device's secret is lost: what it protected is put aside, and nothing is deleted.

Without the secret the journal, the device key and the cards of its level are of no use, and no portal's order can be
taken: a new secret has to be made. It never is by itself, for a key store that was lost may be found again. What is
put aside lies in one folder, ``put-aside-`` and the time; moved back, it is what it was.

A cut in the middle leaves the secret's marker where it was, which goes last: it is lost as before, and this can be
done again.

Everything here blocks: call it from a worker thread.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from agent.durable import sync_folder
from agent.journal_cards import read_cards
from agent.keys_system import DeviceSecretLost, KeystoreMissing, Level
from agent.vsc.store import card_names
from protocol.errors import InlayError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.device import Device
    from agent.journal_access import JournalAccess
    from agent.journal_cards import JournalledCard

_LOG = logging.getLogger(__name__)

_JOURNAL_PARTS: Final = ("-wal", "-shm", "")
"""A write-ahead log without its journal is nothing; with a new one it would be taken for the new one's."""


class StartOver:
    """What is lost, and putting it aside."""

    def __init__(self, state: Path, device: Device, journal: JournalAccess) -> None:
        """Use the agent's state folder, its device and its journal."""
        self._state = state
        self._device = device
        self._journal = journal

    def look(self) -> dict[str, Any]:
        """What would be put aside; nothing is changed.

        Returns:
            ``cause`` (a code of the table), and ``cards``: each with ``card``, ``portal`` and ``account``, the
            latter two None where nothing was recorded.

        Raises:
            InlayError: ``nothing_lost``: the secret is there; ``keystore_locked``: unlocked, it may be, too.
        """
        levels, cause = self._lost()
        records = self._journal.cards()
        names = [name for level in levels for name in card_names(self._cards(level))]
        return {"cause": cause.code, "cards": [_told(name, records.get(name)) for name in names]}

    def carry_out(self) -> dict[str, Any]:
        """Put aside what is lost; a new secret is made at its first use.

        Returns:
            As `look`, and ``folder``: where it lies now.

        Raises:
            InlayError: as `look`; ``card_write_failed``: the disk refused.
        """
        told = self.look()
        levels, _ = self._lost()
        own = self._device.made_level()
        folder = self._state / f"put-aside-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            kept = self._put_journal_aside(folder, levels) if own in levels else []
            for level in levels:
                _move(self._cards(level), folder / f"cards-{level.value}")
            sync_folder(folder)
            key_file = self._device.key_file
            if not levels and key_file is not None:
                _move(key_file, folder / key_file.name)
            for level in levels:
                _move(self._state / f"secret-{level.value}", folder / f"secret-{level.value}")
            sync_folder(folder)
            sync_folder(self._state)
        except OSError as error:
            raise InlayError("card_write_failed", cause=error.strerror or type(error).__name__) from error
        _LOG.warning("what a lost secret protected was put aside: %s", folder.name)
        self._record_again(kept)
        return told | {"folder": str(folder)}

    def _lost(self) -> tuple[list[Level], InlayError]:
        lost: list[Level] = []
        cause: InlayError | None = None
        for level in Level:
            try:
                self._device.look_for(level)
            except (DeviceSecretLost, KeystoreMissing) as error:
                lost.append(level)
                cause = error
        if cause is None:
            cause = self._lost_key()
        return lost, cause

    def _lost_key(self) -> InlayError:
        """The secret is there: then it may be the device key's file alone that was altered."""
        try:
            self._device.key()
        except InlayError as error:
            if error.code == "device_secret_lost":
                return error
            raise
        raise InlayError("nothing_lost")

    def _put_journal_aside(self, folder: Path, levels: list[Level]) -> list[JournalledCard]:
        """Move the journal; the rows of cards that stay."""
        path = self._journal.path
        kept = [
            card for card in read_cards(path).values() if card.level not in {item.value for item in levels}
        ]
        self._journal.close()
        for part in _JOURNAL_PARTS:
            _move(path.with_name(path.name + part), folder / (path.name + part))
        return kept

    def _record_again(self, cards: list[JournalledCard]) -> None:
        """Cards of another level go on: write where they come from into the new journal."""
        try:
            for card in cards:
                self._journal.get().add_card(card)
        except InlayError as error:  # they can be used all the same
            _LOG.warning("where other cards come from isn't recorded any more: %s", error.code)

    def _cards(self, level: Level) -> Path:
        return self._state / "cards" / level.value


def _move(source: Path, target: Path) -> None:
    """Move what is there; a second attempt after a cut finds a part of it moved."""
    if source.exists() and not target.exists():
        source.rename(target)


def _told(name: str, record: JournalledCard | None) -> dict[str, Any]:
    return {
        "card": name,
        "portal": None if record is None else record.portal,
        "account": None if record is None else record.account,
    }
