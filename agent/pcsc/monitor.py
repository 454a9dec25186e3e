"""Follows readers and cards for as long as the agent wants, whatever becomes of the PC/SC service.

One thread waits in SCardGetStatusChange (with the plug-and-play entry for readers) until something changes; nothing
is polled but whether another program still keeps a card for itself. On any error the context is dropped and a new one
opened; a service that isn't there is waited for by `agent.pcsc.service_wait`. pyscard's own monitors end for good when
the service stops: they aren't used.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from smartcard import scard

from agent.pcsc import reader_names
from agent.pcsc.reader_events import Look, ReaderLook
from agent.pcsc.scard import establish, release
from agent.pcsc.service_wait import ServiceWait
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger(__name__)

_PLUG_AND_PLAY: Final = "\\\\?PnP?\\Notification"
_FOR_EVER: Final = scard.INFINITE
_AGAIN_MILLISECONDS: Final = 1000
"""A reader that came between the listing and the wait isn't told of (pcsc-lite counts readers when the wait
begins): after each change one wait is this short, then they are listed once more."""
_KEPT_MILLISECONDS: Final = 2000
"""pcsc-lite wakes nobody when a program that has kept a card for itself lets it go: the state is asked for again, which
the card doesn't notice, for as long as one is kept and somebody watches."""
_FIRST_PAUSE, _LAST_PAUSE = 0.02, 20.0
"""Seconds before a service that failed is tried again; doubled each time."""
_SETTLING_TRIES: Final = 8
"""A service whose socket has just appeared may not listen yet: after so many tries (5 s) it is waited for."""
_REFUSALS: Final = 3
_LIVED_SECONDS: Final = 2.0
"""A context that lasted as long was a service that worked."""
_MANY_WAKES, _WAKE_WINDOW, _CALM_SECONDS = 50, 1.0, 0.2
_JOIN_SECONDS: Final = 0.05

_NO_READERS: Final = frozenset({scard.SCARD_E_NO_READERS_AVAILABLE, scard.SCARD_E_UNKNOWN_READER})
_NOT_THERE: Final = scard.SCARD_STATE_UNAVAILABLE | scard.SCARD_STATE_UNKNOWN
"""A reader in pcscd's configuration stays on its list when it was pulled out of the machine: it is of no use there."""
_PASSING: Final = frozenset({scard.SCARD_S_SUCCESS, scard.SCARD_E_TIMEOUT, scard.SCARD_E_CANCELLED})


class _ContextLost(Exception):
    """The context can't be used any more.

    Attributes:
        code: PC/SC's.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Monitor:
    """One thread that tells of each change; see the module."""

    def __init__(self, tell: Callable[[Look], None]) -> None:
        """Prepare; `start` begins.

        Args:
            tell: called from the monitor's thread with each look that differs from the last one.
        """
        self._tell = tell
        self._last: Look | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._handle: Any = None
        self._failures = 0
        self._service = ServiceWait()
        self._thread = threading.Thread(target=self._run, name="readers", daemon=True)

    def start(self) -> None:
        """Begin; the first look is told at once, also when there is no service."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the end. A monitor isn't started again.

        SCardCancel ends a wait that has begun and nothing else: it is repeated until the thread has seen it.
        """
        self._stopping.set()
        while self._thread.is_alive():
            self._service.wake()
            with self._lock:
                if self._handle is not None:
                    scard.SCardCancel(self._handle)
            self._thread.join(_JOIN_SECONDS)
        self._service.close()

    # --- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                self._open()
                self._follow()
            except _ContextLost as lost:
                self._show(Look(self._problem(lost.code)))
            except InlayError as error:
                self._show(Look(error.code))
            finally:
                self._release()
            if time.monotonic() - begun > _LIVED_SECONDS:
                self._failures = 0
            if not self._stopping.is_set():
                self._pause()

    def _open(self) -> None:
        code, handle = establish()
        if code != scard.SCARD_S_SUCCESS:
            raise _ContextLost(code)
        with self._lock:
            self._handle = handle

    def _release(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            release(handle)

    def _pause(self) -> None:
        """Wait before the next try: shortly at first, then for a sign that the service comes."""
        seconds: float | None = min(_FIRST_PAUSE * 2**self._failures, _LAST_PAUSE)
        if self._failures >= _SETTLING_TRIES and not self._service.socket_is_there:
            seconds = None
        appeared = self._service.wait(seconds)
        self._failures = 0 if appeared else self._failures + 1

    def _follow(self) -> None:
        """Look, tell, wait; for ever.

        Raises:
            _ContextLost: the context can't be used any more.
            InlayError: ``pcsc_reader_name``.
        """
        known: dict[str, int] = {}
        recently_changed = True
        wakes = _Wakes()
        while not self._stopping.is_set():
            names = self._names()
            known = {name: known.get(name, scard.SCARD_STATE_UNAWARE) for name in names}
            if not names:
                self._show(Look())
            kept = any(event & scard.SCARD_STATE_EXCLUSIVE for event in known.values())
            milliseconds = (
                _AGAIN_MILLISECONDS if recently_changed else _KEPT_MILLISECONDS if kept else _FOR_EVER
            )
            code, states = self._wait(milliseconds, known)
            recently_changed = code == scard.SCARD_S_SUCCESS
            if code in _PASSING and recently_changed:
                known.update({name: event & ~scard.SCARD_STATE_CHANGED for name, event, _ in states})
                there = [state for state in states if state[0] in names and not state[1] & _NOT_THERE]
                self._show(Look(readers=tuple(_reader(*state) for state in there)))
            elif code not in _PASSING and code not in _NO_READERS:
                raise _ContextLost(code)
            if wakes.too_many():
                _LOG.warning("the PC/SC service tells of nothing, again and again")
                self._stopping.wait(_CALM_SECONDS)

    def _names(self) -> list[str]:
        code, names = reader_names.listed(lambda: scard.SCardListReaders(self._handle, []))
        if code in _NO_READERS:
            return []
        if code != scard.SCARD_S_SUCCESS:
            raise _ContextLost(code)
        return names

    def _wait(self, milliseconds: int, known: dict[str, int]) -> tuple[int, list[tuple[str, int, Any]]]:
        query = [(_PLUG_AND_PLAY, scard.SCARD_STATE_UNAWARE), *known.items()]
        code, states = scard.SCardGetStatusChange(self._handle, milliseconds, query)
        return code, [state for state in states if state[0] != _PLUG_AND_PLAY]

    def _problem(self, code: int) -> str:
        """The row of the error table. A service that is just ending refuses as polkit does: the last "no" counts."""
        refused = code == scard.SCARD_W_SECURITY_VIOLATION and self._failures >= _REFUSALS
        return "pcsc_refused" if refused else "pcsc_no_service"

    def _show(self, look: Look) -> None:
        if look != self._last:
            self._last = look
            self._tell(look)


class _Wakes:
    """Counts how often a wait ended: a service that never lets one wait must not take a whole processor."""

    def __init__(self) -> None:
        self._begun, self._count = time.monotonic(), 0

    def too_many(self) -> bool:
        now = time.monotonic()
        if now - self._begun > _WAKE_WINDOW:
            self._begun, self._count = now, 0
        self._count += 1
        return self._count > _MANY_WAKES


def _reader(name: str, event: int, atr: Any) -> ReaderLook:
    present = bool(event & scard.SCARD_STATE_PRESENT)
    return ReaderLook(
        name=name,
        present=present,
        atr=bytes(atr) if present else b"",
        count=event >> 16 & 0xFFFF,
        mute=bool(event & scard.SCARD_STATE_MUTE),
        exclusive=bool(event & scard.SCARD_STATE_EXCLUSIVE),
    )
