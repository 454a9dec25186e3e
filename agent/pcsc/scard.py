"""PC/SC through pyscard's thin layer, and nothing above it: contexts, readers, one connection to a card.

All calls block (a transmit waits for other programs' transactions): call them from a worker thread. Every
PC/SC code becomes a row of the error table by one table, here. Dispositions are always given explicitly.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from smartcard import scard

from agent.pcsc import reader_names
from agent.pcsc.apdu import by_t0
from protocol.errors import InlayError

if TYPE_CHECKING:
    from types import TracebackType

_NO_SERVICE: Final = frozenset(
    {
        scard.SCARD_E_NO_SERVICE,
        scard.SCARD_E_SERVICE_STOPPED,
        scard.SCARD_E_INVALID_HANDLE,
        scard.SCARD_F_COMM_ERROR,
        scard.SCARD_E_SYSTEM_CANCELLED,
    }
)
_CAUSES: Final = {
    scard.SCARD_W_REMOVED_CARD: "pcsc_card_removed",
    scard.SCARD_E_NO_SMARTCARD: "pcsc_card_removed",
    scard.SCARD_E_READER_UNAVAILABLE: "pcsc_card_removed",
    scard.SCARD_W_RESET_CARD: "pcsc_card_reset",
    scard.SCARD_W_UNRESPONSIVE_CARD: "pcsc_card_mute",
    scard.SCARD_W_UNPOWERED_CARD: "pcsc_card_mute",
    scard.SCARD_W_UNSUPPORTED_CARD: "pcsc_card_mute",
    scard.SCARD_E_SHARING_VIOLATION: "pcsc_sharing",
    scard.SCARD_W_SECURITY_VIOLATION: "pcsc_refused",  # polkit said no
}
_PROTOCOLS: Final = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
_NO_READERS: Final = frozenset({scard.SCARD_E_NO_READERS_AVAILABLE, scard.SCARD_E_UNKNOWN_READER})
_FORGOTTEN: Final = frozenset(
    {
        scard.SCARD_S_SUCCESS,
        scard.SCARD_W_RESET_CARD,
        scard.SCARD_W_REMOVED_CARD,
        scard.SCARD_E_NO_SMARTCARD,
        scard.SCARD_E_READER_UNAVAILABLE,
    }
)
"""Ends of a transaction with a reset after which the card knows nothing any more: it was reset, or without power."""
_REFUSAL_PAUSES: Final = (0.1, 0.2, 0.4, 0.8)
"""Seconds before a refusal is asked for again: pcscd takes so long to end on a busy machine."""
_ONE_AT_A_TIME: Final = threading.Lock()
"""Held while the list of contexts may change, and while a handle is struck off it.

pc/sc-lite's client library walks that list without its own lock in SCardDisconnect, and crashes the process when
another thread opens or closes a context meanwhile. Nothing that waits for other programs is called with it.
"""


class ReaderState(NamedTuple):
    """A reader as PC/SC shows it.

    Attributes:
        name: its name.
        present: a card is in it.
        atr: the card's answer to reset; empty when there is none.
    """

    name: str
    present: bool
    atr: bytes


class Context:
    """An open PC/SC context. Where systemd starts pcscd on demand, opening one starts it."""

    def __init__(self) -> None:
        """Open.

        Raises:
            InlayError: ``pcsc_no_service``, ``pcsc_refused``.
        """
        code, self._handle = _establish()
        _check(code)

    @property
    def valid(self) -> bool:
        """Whether the service that it was opened at still runs."""
        return bool(scard.SCardIsValidContext(self._handle) == scard.SCARD_S_SUCCESS) and not self._lost()

    def readers(self) -> list[ReaderState]:
        """All readers.

        Raises:
            InlayError: ``pcsc_no_service``, ``pcsc_reader_name``, ``pcsc_failed``.
        """
        names = self._names()
        if not names:
            return []
        query = [(name, scard.SCARD_STATE_UNAWARE) for name in names]
        code, states = scard.SCardGetStatusChange(self._handle, 0, query)
        if code in _NO_READERS:
            return []
        _check(code)
        return [
            ReaderState(name, bool(event & scard.SCARD_STATE_PRESENT), bytes(atr))
            for name, event, atr in states
        ]

    def event_count(self, reader: str) -> int | None:
        """See the function of this name."""
        code, states = scard.SCardGetStatusChange(self._handle, 0, [(reader, scard.SCARD_STATE_UNAWARE)])
        if code in _NO_READERS:
            return None
        _check(code)
        return int(states[0][1]) >> 16

    def connect(self, reader: str, *, owned: bool = False) -> Connection:
        """Connect to the card in a reader, shared with other programs.

        Args:
            reader: its name.
            owned: this context is closed with the connection.

        Raises:
            InlayError: ``pcsc_card_removed``, ``pcsc_card_mute``, ``pcsc_sharing``, ``pcsc_no_service``,
                ``pcsc_failed``.
        """
        code, handle, protocol = scard.SCardConnect(
            self._handle, reader, scard.SCARD_SHARE_SHARED, _PROTOCOLS
        )
        _check(code)
        return Connection(handle, protocol, self if owned else None)

    def close(self) -> None:
        """Close; harmless when the service has gone."""
        release(self._handle)

    def _names(self) -> list[str]:
        code, names = reader_names.listed(lambda: scard.SCardListReaders(self._handle, []))
        if code in _NO_READERS:
            return []
        _check(code)
        return names

    def _lost(self) -> bool:
        """pcsc-lite answers for contexts of its own process: only a question to the service tells."""
        try:
            code, _ = reader_names.listed(lambda: scard.SCardListReaders(self._handle, []))
        except InlayError:
            return False  # it has answered
        return code in _NO_SERVICE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Connection:
    """A shared connection to one card."""

    def __init__(self, handle: Any, protocol: int, context: Context | None = None) -> None:
        """Take over a handle, and the context if that is to be closed with it."""
        self._handle = handle
        self._protocol = protocol
        self._context = context

    def transmit(self, apdu: bytes) -> bytes:
        """Transmit one APDU.

        Returns:
            The answer, status word at the end.

        Raises:
            InlayError: ``pcsc_card_removed``, ``pcsc_card_reset``, ``pcsc_no_service``, ``pcsc_failed``.
        """
        if self._protocol == scard.SCARD_PROTOCOL_T1:
            code, answer = scard.SCardTransmit(self._handle, scard.SCARD_PCI_T1, list(apdu))
        else:
            code, answer = scard.SCardTransmit(self._handle, scard.SCARD_PCI_T0, list(by_t0(apdu)))
        _check(code)
        if not answer:  # a card taken out in the middle of a command: success, and nothing
            raise InlayError("pcsc_card_removed")
        return bytes(answer)

    def ask_reader(self, function: int) -> bytes:
        """Ask the reader's driver by the number of a function, which is a control code of its own on each system.

        Raises:
            InlayError: as `control`.
        """
        return self.control(scard.SCARD_CTL_CODE(function), b"")

    def control(self, code: int, data: bytes) -> bytes:
        """Ask the reader's driver; the answer is the driver's own.

        Raises:
            InlayError: ``pcsc_failed``: it doesn't know the code; other ``pcsc_…``.
        """
        status, answer = scard.SCardControl(self._handle, code, list(data))
        _check(status)
        return bytes(answer)

    def begin(self) -> None:
        """Keep other programs off the card until `end`; waits for theirs.

        Raises:
            InlayError: ``pcsc_card_reset``, ``pcsc_card_removed``, ``pcsc_sharing``, ``pcsc_no_service``,
                ``pcsc_failed``.
        """
        _check(scard.SCardBeginTransaction(self._handle))

    def end(self, *, reset: bool) -> bool:
        """Let other programs at the card again; harmless when card or service have gone.

        Args:
            reset: reset the card, which forgets the PIN and whatever else was proved to it.

        Returns:
            With ``reset``, whether it has forgotten it; it has, too, when it was taken out.
        """
        disposition = scard.SCARD_RESET_CARD if reset else scard.SCARD_LEAVE_CARD
        return scard.SCardEndTransaction(self._handle, disposition) in _FORGOTTEN

    def reconnect(self) -> None:
        """Take the card up again after another program reset it.

        Raises:
            InlayError: as `Context.connect`.
        """
        code, protocol = scard.SCardReconnect(
            self._handle, scard.SCARD_SHARE_SHARED, _PROTOCOLS, scard.SCARD_LEAVE_CARD
        )
        _check(code)
        self._protocol = protocol

    def atr(self) -> bytes:
        """The card's answer to reset.

        Raises:
            InlayError: ``pcsc_…``.
        """
        code, _, _, _, atr = scard.SCardStatus(self._handle)
        _check(code)
        return bytes(atr)

    def close(self, *, reset: bool = False) -> None:
        """Disconnect; harmless when card or service have gone.

        Args:
            reset: reset the card before, which waits for other programs' transactions; else it is left as it is
                for the programs that share it. Never for a card that was taken out: who puts another one in at
                that moment would have that one reset, and pcscd may take it for absent until it is pulled.
        """
        if reset:
            scard.SCardReconnect(self._handle, scard.SCARD_SHARE_SHARED, _PROTOCOLS, scard.SCARD_RESET_CARD)
        with _ONE_AT_A_TIME:
            scard.SCardDisconnect(self._handle, scard.SCARD_LEAVE_CARD)
        if self._context is not None:
            self._context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HeldContext:
    """One context kept open, so that a pcscd that was started on demand doesn't end; renewed when it was lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: Context | None = None

    def ensure(self) -> None:
        """Open it, or open a new one in place of a lost one.

        Raises:
            InlayError: ``pcsc_no_service``.
        """
        with self._lock:
            if self._context is not None and not self._context.valid:
                self._context.close()
                self._context = None
            if self._context is None:
                self._context = Context()

    def release(self) -> None:
        """Close it."""
        with self._lock:
            if self._context is not None:
                self._context.close()
                self._context = None


def establish() -> tuple[int, Any]:
    """SCardEstablishContext, by itself among this process' threads.

    Returns:
        PC/SC's code, and the handle.
    """
    with _ONE_AT_A_TIME:
        code, handle = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    return code, handle


def release(handle: Any) -> None:
    """SCardReleaseContext, by itself among this process' threads."""
    with _ONE_AT_A_TIME:
        scard.SCardReleaseContext(handle)


def _establish() -> tuple[int, Any]:
    """Open a context; a service that is just ending refuses as polkit does, so a refusal is asked for again."""
    code, handle = establish()
    for pause in _REFUSAL_PAUSES:
        if code != scard.SCARD_W_SECURITY_VIOLATION:
            break
        time.sleep(pause)
        code, handle = establish()
    return code, handle


def connect(reader: str) -> Connection:
    """Connect to the card in a reader, by a context of its own that is closed with the connection.

    Raises:
        InlayError: as `Context.connect`; ``pcsc_refused``.
    """
    context = Context()
    try:
        return context.connect(reader, owned=True)
    except BaseException:
        context.close()
        raise


def event_count(reader: str) -> int | None:
    """PC/SC's count of a reader's events: it moves with each card that comes or goes; None: there is no such reader.

    Raises:
        InlayError: ``pcsc_no_service``, ``pcsc_failed``.
    """
    with Context() as context:
        return context.event_count(reader)


def list_readers() -> list[ReaderState]:
    """All readers, by a context of its own.

    Raises:
        InlayError: ``pcsc_no_service``, ``pcsc_failed``.
    """
    with Context() as context:
        return context.readers()


def _check(code: int) -> None:
    """Raise what a PC/SC code stands for."""
    if code == scard.SCARD_S_SUCCESS:
        return
    if code in _NO_SERVICE:
        raise InlayError("pcsc_no_service")
    if code in _CAUSES:
        raise InlayError(_CAUSES[code])
    raise InlayError("pcsc_failed", cause=f"0x{code & 0xFFFFFFFF:08X}")
