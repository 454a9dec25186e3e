"""A card one can talk to: the engine, its state, and the promise that what it says is on the disk."""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec

from agent.vsc import objects
from agent.vsc.apdu import HEADER_BYTES, StatusError, StatusWord
from agent.vsc.applet import process
from agent.vsc.applet_reference import about_reference, closed
from agent.vsc.attestation import with_attestation
from agent.vsc.card_details import CardDetails, slot_details
from agent.vsc.commands import (
    ATTEST,
    CHANGE_REFERENCE,
    GENERAL_AUTHENTICATE,
    GENERATE,
    IMPORT_KEY,
    MANAGEMENT,
    MOVE_KEY,
    PUT_DATA,
    RESET_CARD,
    RESET_RETRY,
    SET_MANAGEMENT_KEY,
    SET_RETRIES,
    SLOTS,
    VERIFY,
    ChangeReference,
    ManagementAlgorithm,
    ResetRetry,
    Verify,
    is_reference_value,
)
from agent.vsc.keys_software import SoftwareKeys
from agent.vsc.outcome import Outcome, Step, run_step
from agent.vsc.state import Lifecycle, PersistentState, VolatileState
from agent.vsc.store import CardDamaged, CardNotSaved, CardStore

if TYPE_CHECKING:
    from pathlib import Path

ATR: Final = bytes.fromhex("3B8B800180F9A00000030800001000C8")
"""T=1, historical bytes with the PIV application's name: OpenSC restricts nothing, ykman takes it."""

_SLOW: Final = frozenset(
    {
        *(VERIFY, CHANGE_REFERENCE, RESET_RETRY, GENERATE, IMPORT_KEY, PUT_DATA),
        *(MOVE_KEY, ATTEST, SET_RETRIES, RESET_CARD, SET_MANAGEMENT_KEY),
    }
)

_DONE: Final = (StatusWord.OK >> 8, StatusWord.MORE >> 8)
_ASK_AGAIN: Final = 1.0

_log = logging.getLogger(__name__)


class VirtualCard:
    """One virtual card. May be used from several threads; commands run one after the other.

    `transmit` may take a second (Argon2id, making RSA keys): don't call it on an event loop when
    `is_slow` says so, or when `busy`.
    """

    def __init__(self, store: CardStore, state: PersistentState) -> None:
        """Use a state that was loaded from, or created in, the store."""
        self._store = store
        self._state = state
        self._volatile = VolatileState()
        self._keys = SoftwareKeys(store.secret)
        self._lock = threading.Lock()
        self._retired = False
        self._pin_used = 0.0

    @classmethod
    def load(cls, store: CardStore, card_id: str) -> VirtualCard:
        """Load a card; one of file version 1 gets its attestation key now.

        Raises:
            CardStoreError: it can't be read, or that key can't be saved; see `agent.vsc.store`.
        """
        state = store.load(card_id)
        if not state.attested:
            state = with_attestation(state, SoftwareKeys(store.secret))
            state = msgspec.structs.replace(state, generation=state.generation + 1)
            store.save(state)
        return cls(store, state)

    def __repr__(self) -> str:
        return f"<VirtualCard {self.card_id}>"

    @property
    def card_id(self) -> str:
        """Name in the store."""
        return self._state.card_id

    @property
    def guid(self) -> bytes:
        """GUID of the CHUID that the card answers with, 16 bytes."""
        return objects.chuid_guid(self._state.objects.get(objects.CHUID, b"")) or self._state.guid

    @property
    def lifecycle(self) -> Lifecycle:
        """Being made, or active."""
        return self._state.lifecycle

    @property
    def pin_mark(self) -> str:
        """Tells one PIN of the card from another, by its salt: a change makes a new mark, a wrong try doesn't."""
        return hashlib.sha256(self._state.pin.salt).hexdigest()[:16]

    @property
    def management_algorithm(self) -> ManagementAlgorithm:
        """Algorithm of the management key."""
        return self._state.management.algorithm

    @property
    def atr(self) -> bytes:
        """Answer to reset."""
        return ATR

    @property
    def busy(self) -> bool:
        """Whether a command is running in another thread: `transmit` would wait for it."""
        return self._lock.locked()

    @property
    def midway(self) -> bool:
        """Whether a command came, or an answer went out, in part only: the rest is on its way."""
        return self._volatile.chain is not None or bool(self._volatile.outgoing)

    @property
    def unlocked(self) -> bool:
        """Whether a PIN has opened the card, and it hasn't been closed since."""
        return self._volatile.open_card is not None

    def lapse(self, limit: float) -> float | None:
        """Forget the PIN when neither it nor a key behind it has been used for some time.

        Args:
            limit: that time, in seconds.

        Returns:
            Seconds after which to ask again; None when the card is closed now.
        """
        if not self._lock.acquire(blocking=False):
            return _ASK_AGAIN  # a command is running: never wait for it on an event loop
        try:
            left = self._pin_used + limit - time.monotonic()
            if self.unlocked and left > 0:
                return left
            self._volatile = closed(self._volatile)
            return None
        finally:
            self._lock.release()

    @staticmethod
    def is_slow(apdu: bytes) -> bool:
        """Whether this APDU may stretch a PIN, make a key or write the disk."""
        return len(apdu) >= HEADER_BYTES and apdu[1] in _SLOW

    def power_on(self) -> None:
        """Give power; the state is that of a fresh start."""
        self.reset()

    def power_off(self) -> None:
        """Take power away: nobody is logged in, nothing is open."""
        self.reset()

    def reset(self) -> None:
        """Start afresh: selection, PIN, authentication and half-sent commands are gone."""
        with self._lock:
            closed(self._volatile)
            self._volatile = VolatileState()

    def transmit(self, apdu: bytes) -> bytes:
        """Answer an APDU. What changed is on the disk before the answer is returned.

        Args:
            apdu: any bytes.

        Returns:
            Data and status word, at least 2 bytes: 6581 when the disk refused, 6F00 on a fault of ours.
        """
        with self._lock:
            try:
                outcome = self._run(apdu)
            except CardNotSaved as error:
                _log.error("card %s not saved: %s", self.card_id, error.system_error)
                return self._refused(StatusWord.STORAGE_FAILED)
            except Exception as error:
                # the text of an unforeseen error might quote what it choked on: its kind must do
                _log.critical("card %s: %s in INS %s", self.card_id, type(error).__name__, apdu[1:2].hex())
                return self._refused(StatusWord.INTERNAL)
            self._volatile = outcome.volatile
            if outcome.status >> 8 in _DONE and _needs_pin(apdu):
                self._pin_used = time.monotonic()
            return outcome.data + outcome.status.to_bytes(2, "big")

    def carry_out(self, command: Verify | ChangeReference | ResetRetry) -> int:
        """Compare or change PIN or PUK for the person, beside whatever a reader's clients are doing.

        The application needs no selection, and a client's half-sent command stays as it is. Whatever comes of it,
        nobody is logged in afterwards: who had the old PIN has to show the new one.

        Args:
            command: with blocks of 8 bytes, see `pad`.

        Returns:
            The status word.

        Raises:
            CardNotSaved: the disk refused; the old value is still the one.
        """
        with self._lock:
            try:
                outcome = self._kept(about_reference(self._state, self._volatile, command, self._keys))
            except StatusError as error:
                return error.status
            finally:
                self._volatile = closed(self._volatile)
            return outcome.status

    def copy_to(self, folder: Path) -> VirtualCard:
        """Make a copy of the card's file in another folder, to work on while the card stays as it is.

        A copy that is there already, from a work that was cut off, is replaced.

        Raises:
            CardNotSaved: the disk refused.
        """
        with self._lock:
            store = CardStore(folder, self._store.secret)
            store.save(self._state)
            return VirtualCard(store, self._state)

    def adopt(self, folder: Path, *, new_pin: bool = False) -> None:
        """Take on keys, certificates and objects of a copy, in one write; harmless when they are taken on.

        PIN, PUK, management key and their tries stay the card's own: a try that was spent on the card meanwhile
        stays spent, and a PIN that was changed stays changed.

        Args:
            folder: where the copy lies.
            new_pin: take on the copy's PIN, too: it was set there by the PUK, for good.

        Raises:
            CardStoreError: the copy can't be read, the card was reset since it was copied, or the disk refused; the
                card is as it was.
        """
        with self._lock:
            other = CardStore(folder, self._store.secret).load(self.card_id)
            own = self._state
            if other.public != own.public:  # the copy's keys are sealed to a key that the card has no more
                raise CardDamaged(self.card_id)
            if (own.slots, own.objects) != (other.slots, other.objects):
                closed(self._volatile)
                self._volatile = VolatileState()
                self._save(own.with_work_of(other, new_pin=new_pin))

    def answer_management_challenge(self, challenge: bytes) -> bytes:
        """What proves the management key: for the agent that makes the card, never for a peer.

        Args:
            challenge: one block, 8 bytes for 3DES, else 16.
        """
        return self._keys.management_encrypt(self._state, challenge)

    def activate(self) -> None:
        """Mark the card active: from now on it may be attached to a reader.

        Raises:
            CardNotSaved: the disk refused.
        """
        with self._lock:
            self._save(msgspec.structs.replace(self._state, lifecycle=Lifecycle.ACTIVE))

    def retire(self) -> None:
        """End the card before its file is removed: what is still sent to it can't bring the file back."""
        with self._lock:
            self._retired = True
            self._volatile = closed(self._volatile)

    def details(self) -> CardDetails:
        """What may be shown of the card."""
        state = self._state
        return CardDetails(
            card_id=state.card_id,
            label=state.label,
            serial=str(int.from_bytes(state.serial, "big")),
            guid=self.guid.hex(),
            level=str(self._store.secret.level),
            lifecycle=state.lifecycle,
            generation=state.generation,
            pin_tries=state.pin.tries,
            puk_tries=state.puk.tries,
            slots=tuple(slot_details(state, slot) for slot in sorted(state.slots.keys() & SLOTS)),
        )

    def _run(self, apdu: bytes) -> Outcome:
        return self._kept(process(self._state, self._volatile, apdu, self._keys))

    def _kept(self, step: Step) -> Outcome:
        """Run a command; its new state is on the disk when this returns."""
        outcome = run_step(step, self._save)
        if outcome.state is not self._state:
            saved = msgspec.structs.replace(outcome.state, generation=self._state.generation)
            if saved != self._state:  # what a wrong PIN spent is on the disk already
                self._save(saved)
        return outcome

    def _save(self, state: PersistentState) -> None:
        """Bring a state to the disk, then take it on: the memory never runs ahead of the disk."""
        if self._retired:
            raise CardNotSaved(self.card_id, FileNotFoundError(errno.ENOENT, "removed"))
        generation = max(self._state.generation, state.generation) + 1
        state = msgspec.structs.replace(state, generation=generation)
        self._store.save(state)
        self._state = state

    def _refused(self, status: StatusWord) -> bytes:
        """After a fault nothing is left open."""
        closed(self._volatile)
        self._volatile = VolatileState(selected=self._volatile.selected)
        return status.to_bytes(2, "big")


def _needs_pin(apdu: bytes) -> bool:
    """Whether a command shows the PIN or uses a key behind it.

    Not those that only look: VERIFY without data, and GENERAL AUTHENTICATE with the management key, which readers
    take random numbers from.
    """
    if apdu[1] == VERIFY:
        return len(apdu) > HEADER_BYTES + 1
    return apdu[1] == CHANGE_REFERENCE or (apdu[1] == GENERAL_AUTHENTICATE and apdu[3] != MANAGEMENT)


def pad(value: bytes | bytearray) -> bytes:
    """Pad a PIN or PUK to the 8 bytes that a card takes.

    Raises:
        ValueError: not 6 to 8 printable ASCII bytes.
    """
    block = bytes(value).ljust(8, b"\xff")
    if not is_reference_value(block):
        raise ValueError("PIN or PUK of a wrong form")
    return block
