"""The cards of this user on the disk: one file each, encrypted under the device secret, replaced atomically.

A file::

    magic     8 bytes   "INLAYVSC"
    version   2 bytes   big-endian, 2; 1 is read too: the cards before the attestation key
    card id  16 bytes
    secret    8 bytes   tells which device secret the file belongs to
    length    4 bytes   big-endian, of what follows
    sealed              nonce (12) and AES-256-GCM of the state as MessagePack; all before it is
                        associated data

A file that is damaged, cut short, of another version or another device secret is recognised as that
and left alone: only `delete` removes anything.

Errors, all `protocol.errors.InlayError`::

    CardStoreError
    ├── CardUnknown         card_unknown         no such file
    ├── CardTruncated       card_damaged         shorter than it says
    ├── CardDamaged         card_damaged         its bytes were changed, or hold what no card has
    ├── CardVersion         card_version         written by another version
    ├── CardOfOtherDevice   card_of_other_device another device secret's
    └── CardNotSaved        card_write_failed    the disk refused
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.durable import sync_folder, write_durably
from agent.keys_system import DeviceSecret
from agent.vsc.state import PersistentState
from protocol.errors import InlayError

FORMAT_VERSION: Final = 2

_READABLE: Final = (1, FORMAT_VERSION)  # what version 2 added has defaults in the state
_MAGIC: Final = b"INLAYVSC"
_HEADER: Final = struct.Struct(">8sH16s8sI")
_NONCE: Final = 12
_LARGEST_FILE: Final = 4 * 1024 * 1024  # more than all objects and keys a card can hold
_SUFFIX: Final = ".card"
_NAME: Final = re.compile(r"[0-9a-f]{32}")


class CardStoreError(InlayError):
    """A card's file can't be used.

    Attributes:
        card_id: the card.
    """

    def __init__(self, code: str, card_id: str, **fields: str | int) -> None:
        super().__init__(code, card=card_id, **fields)
        self.card_id = card_id


class CardUnknown(CardStoreError):
    """There is no such card."""

    def __init__(self, card_id: str) -> None:
        super().__init__("card_unknown", card_id)


class CardDamaged(CardStoreError):
    """The file's bytes are not what was written."""

    def __init__(self, card_id: str) -> None:
        super().__init__("card_damaged", card_id)


class CardTruncated(CardDamaged):
    """The file ends too early, or goes on too long."""


class CardVersion(CardStoreError):
    """The file was written by another version of the software.

    Attributes:
        found: the file's version.
    """

    def __init__(self, card_id: str, found: int) -> None:
        super().__init__("card_version", card_id, found=found, supported=FORMAT_VERSION)
        self.found = found


class CardOfOtherDevice(CardStoreError):
    """The file belongs to another device secret: of another machine or user, or one that was given up."""

    def __init__(self, card_id: str) -> None:
        super().__init__("card_of_other_device", card_id)


class CardNotSaved(CardStoreError):
    """The disk refused; the file on it is the one before.

    Attributes:
        system_error: the system's name of the error, for example ENOSPC.
    """

    def __init__(self, card_id: str, error: OSError) -> None:
        self.system_error = errno.errorcode.get(error.errno or 0, "EIO")
        super().__init__("card_write_failed", card_id, cause=self.system_error)


@dataclass(frozen=True, slots=True)
class CardEntry:
    """One file of the store: its state, or why it can't be read."""

    card_id: str
    state: PersistentState | None
    error: CardStoreError | None = None


def card_names(folder: Path) -> list[str]:
    """Names of the cards in a folder, readable or not; needs no secret."""
    return sorted(path.stem for path in folder.glob(f"*{_SUFFIX}") if _NAME.fullmatch(path.stem))


def sweep(folder: Path) -> None:
    """Remove what a cut between writing and renaming left behind; to be called at start. Needs no secret."""
    for left in folder.glob(f".*{_SUFFIX}.*.new"):
        left.unlink(missing_ok=True)


class CardStore:
    """A folder of cards. One process at a time uses it: the agent, which is the user's only one."""

    def __init__(self, folder: Path, secret: DeviceSecret) -> None:
        """Use a folder; made with rights 0700 when missing."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._secret = secret

    @property
    def secret(self) -> DeviceSecret:
        """The device secret the cards are under."""
        return self._secret

    def list_cards(self) -> list[CardEntry]:
        """Read every card; one that can't be read is an entry with its error."""
        return [self._entry(name) for name in card_names(self._folder)]

    def load(self, card_id: str) -> PersistentState:
        """Read a card.

        Raises:
            CardStoreError: see the module's tree.
        """
        path = self._path(card_id)
        try:
            with path.open("rb") as stream:
                raw = stream.read(_LARGEST_FILE + 1)
        except FileNotFoundError as error:
            raise CardUnknown(card_id) from error
        except OSError as error:
            raise CardDamaged(card_id) from error
        return self._decode(card_id, raw)

    def create(self, state: PersistentState) -> None:
        """Write a card that isn't there yet.

        Raises:
            FileExistsError: it is: ids are random, so only a fault gets here.
            CardNotSaved: the disk refused.
        """
        if self._path(state.card_id).exists():
            raise FileExistsError(state.card_id)
        self.save(state)

    def save(self, state: PersistentState) -> None:
        """Write a card's new state; it is on the disk when this returns.

        Raises:
            CardNotSaved: the disk refused; the old state is still there.
        """
        try:
            write_durably(self._path(state.card_id), self._encode(state))
        except OSError as error:
            raise CardNotSaved(state.card_id, error) from error

    def delete(self, card_id: str) -> None:
        """Remove a card, readable or not; without its file its keys are gone for good.

        Raises:
            CardUnknown: there is none.
            CardNotSaved: the disk refused.
        """
        delete_card(self._folder, card_id)

    def _entry(self, card_id: str) -> CardEntry:
        try:
            return CardEntry(card_id, self.load(card_id))
        except CardStoreError as error:
            return CardEntry(card_id, None, error)

    def _path(self, card_id: str) -> Path:
        return _path(self._folder, card_id)

    def _encode(self, state: PersistentState) -> bytes:
        plain = msgspec.msgpack.encode(state)
        nonce = secrets.token_bytes(_NONCE)
        length = _NONCE + len(plain) + 16
        header = _HEADER.pack(
            _MAGIC, FORMAT_VERSION, bytes.fromhex(state.card_id), self._secret_mark(), length
        )
        return header + nonce + AESGCM(self._key(state.card_id)).encrypt(nonce, plain, header)

    def _decode(self, card_id: str, raw: bytes) -> PersistentState:
        if len(raw) < _HEADER.size:
            raise CardTruncated(card_id)
        magic, version, named, mark, length = _HEADER.unpack_from(raw)
        if magic != _MAGIC:
            raise CardDamaged(card_id)
        if version not in _READABLE:
            raise CardVersion(card_id, version)
        if named.hex() != card_id:
            raise CardDamaged(card_id)
        if len(raw) != _HEADER.size + length or length < _NONCE:
            raise CardTruncated(card_id)
        header, body = raw[: _HEADER.size], raw[_HEADER.size :]
        try:
            plain = AESGCM(self._key(card_id)).decrypt(body[:_NONCE], body[_NONCE:], header)
            state = msgspec.msgpack.decode(plain, type=PersistentState)
        except InvalidTag as error:
            if mark != self._secret_mark():
                raise CardOfOtherDevice(card_id) from error
            raise CardDamaged(card_id) from error
        except (
            msgspec.DecodeError,
            UnicodeDecodeError,
        ) as error:  # the latter: a field's name that is no text
            raise CardDamaged(card_id) from error
        if state.card_id != card_id:
            raise CardDamaged(card_id)
        return state

    def _key(self, card_id: str) -> bytes:
        return self._secret.derive(f"card file {card_id}")

    def _secret_mark(self) -> bytes:
        return self._secret.derive("card file mark", 8)


def delete_card(folder: Path, card_id: str) -> None:
    """Remove a card's file, readable or not; that needs no secret.

    Raises:
        CardUnknown: there is none.
        CardNotSaved: the disk refused.
    """
    try:
        _path(folder, card_id).unlink()
        sync_folder(folder)
    except FileNotFoundError as error:
        raise CardUnknown(card_id) from error
    except OSError as error:
        raise CardNotSaved(card_id, error) from error


def _path(folder: Path, card_id: str) -> Path:
    if not _NAME.fullmatch(card_id):
        raise CardUnknown(card_id)
    return folder / (card_id + _SUFFIX)


def new_card_id() -> str:
    """A name for a new card: 32 random hexadecimal digits."""
    return os.urandom(16).hex()
