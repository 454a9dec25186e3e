"""One connection to vpcd: its framing, and a card that answers.

Both ways: 2 bytes of length, big-endian, and as many bytes. One byte from vpcd is a control (power off,
power on, reset, ATR wanted); all else is an APDU.

vpcd writes length and content in two segments, so that Nagle's algorithm and delayed acknowledgements
together cost 44 ms for each APDU: TCP_QUICKACK before every read prevents that. It isn't sticky.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from agent.vsc.card import VirtualCard

POWER_OFF, POWER_ON, RESET, ATR_WANTED = b"\x00", b"\x01", b"\x02", b"\x04"

_CONTROLS: Final = frozenset({POWER_OFF, POWER_ON, RESET, ATR_WANTED})
_MOST_WAITING: Final = 16  # vpcd sends a command only when the one before was answered
_READ_BYTES: Final = 65_537 + 2
_REST_SECONDS: Final = 1.0
"""How long the rest of a command or an answer in pieces is waited for; clients send it at once, or never."""
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


_log = logging.getLogger(__name__)


class Frames:
    """Takes the stream from vpcd apart: bytes in, messages out. No I/O."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add received bytes.

        Returns:
            The messages that are complete now, in order; a message may be empty.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                break
            messages.append(bytes(self._buffer[2:end]))
            del self._buffer[:end]
        return messages

    @property
    def begun(self) -> bool:
        """Whether a message has begun and its rest is awaited."""
        return bool(self._buffer)


def frame(message: bytes) -> bytes:
    """Build one message for vpcd; at most 65,535 bytes."""
    return len(message).to_bytes(2, "big") + message


class Session:
    """One connection. ATR polls are answered at once; slow commands wait their turn for a thread.

    It reads in a callback that stays registered, not in a task: waking a task and registering the socket
    anew for each command would cost more than the card takes to sign.
    """

    def __init__(
        self, card: VirtualCard, connection: socket.socket, *, pin_lapse: float | None = None
    ) -> None:
        """Prepare; `run` begins.

        Args:
            card: the card.
            connection: to vpcd.
            pin_lapse: seconds without use after which the card forgets that its PIN was typed; None: never.
        """
        self._card = card
        self._connection = connection
        self._pin_lapse = pin_lapse
        self._lapsing: asyncio.TimerHandle | None = None
        self._settling = False
        self._progress = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_MOST_WAITING)
        self._running = False
        self._outgoing = bytearray()
        self._writing = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self.seen = asyncio.Event()

    async def run(self) -> None:
        """Answer until the other side closes.

        Raises:
            EOFError: it closed.
            OSError: the connection broke.
        """
        worker = asyncio.create_task(self._work())
        _quick_acknowledge(self._connection)
        self._loop.add_reader(self._connection, self._readable)
        try:
            await asyncio.wait({worker, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done():
                self._ended.result()
            worker.result()
        finally:
            self._stop()
            self._ended.cancel()
            self._progress.set()
            await cancelled(worker)
            if self._lapsing is not None:
                self._lapsing.cancel()

    async def settle(self) -> None:
        """Let what is under way end: a command is answered, however long it takes, and no new one begun.

        The rest of a command or an answer that goes in pieces is a part of it. For a card that is to be taken out:
        the caller cancels `run` then.
        """
        self._settling = True
        await self._until(lambda: not self._running and self._waiting.empty())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REST_SECONDS):
                await self._until(lambda: self._at_rest)

    @property
    def _at_rest(self) -> bool:
        under_way = self._running or not self._waiting.empty() or bool(self._outgoing)
        return not under_way and not self._card.midway

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not self._ended.done() and not reached():
            self._progress.clear()
            await self._progress.wait()

    def _readable(self) -> None:
        try:
            data = self._receive()
            if data and self._frames.begun:
                # a length whose content is on its way: it is here sooner than the loop would call again
                data = self._receive()
        except BlockingIOError:
            return
        except Exception as error:  # whatever it is, `run` raises it
            self._end(error)
        else:
            if not data:
                self._end(EOFError())

    def _receive(self) -> bytes:
        data = self._connection.recv(_READ_BYTES)
        for message in self._frames.feed(data):
            self._take(message)
        _quick_acknowledge(self._connection)
        return data

    def _take(self, message: bytes) -> None:
        # even an ATR poll says that the slot is ours: a card put in quickly after another gets no power-on
        self.seen.set()
        if message == ATR_WANTED:
            self._answer(self._card.atr)
        elif self._settling and not self._card.midway:
            return  # nothing new is begun; the connection ends at once
        elif self._running or not self._waiting.empty() or self._is_slow(message):
            if self._waiting.full():
                raise ConnectionError("commands without waiting for answers")
            self._waiting.put_nowait(message)
        else:
            self._answer(self._perform(message))

    def _is_slow(self, message: bytes) -> bool:
        """What would hold up the event loop: a stretched PIN, the disk, or a busy card."""
        return self._card.busy or (_is_apdu(message) and self._card.is_slow(message))

    async def _work(self) -> None:
        """Run slow commands, and whatever came behind them, one after the other in a thread."""
        while True:
            message = await self._waiting.get()
            self._running = True
            try:
                self._answer(await asyncio.to_thread(self._perform, message))
            finally:
                self._running = False
                self._progress.set()

    def _perform(self, message: bytes) -> bytes | None:
        """Do what a message asks for; the answer, or None when it has none."""
        if _is_apdu(message):
            return self._card.transmit(message)
        if message == POWER_OFF:
            self._card.power_off()
        else:
            self._card.power_on()
        return None

    def _answer(self, message: bytes | None) -> None:
        if message is not None:
            blocked = bool(self._outgoing)
            self._outgoing += frame(message)
            if not blocked:
                self._send()
            if self._pin_lapse is not None and self._lapsing is None and self._card.unlocked:
                self._lapsing = self._loop.call_later(self._pin_lapse, self._lapse, self._pin_lapse)

    def _lapse(self, limit: float) -> None:
        """The one timer of a card, and only after a PIN: forget it, or look again when it may have lapsed."""
        left = self._card.lapse(limit)
        self._lapsing = None if left is None else self._loop.call_later(left, self._lapse, limit)
        if left is None:
            _log.info("card %s has forgotten its PIN: it wasn't used", self._card.card_id)

    def _send(self) -> None:
        """Send what the socket takes, the rest when it takes more."""
        try:
            sent = self._connection.send(self._outgoing)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end(error)
            return
        del self._outgoing[:sent]
        if bool(self._outgoing) is not self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._connection, self._send)
            else:
                self._loop.remove_writer(self._connection)
        if not self._outgoing:
            self._progress.set()

    def _end(self, error: Exception) -> None:
        self._stop()
        if not self._ended.done():
            self._ended.set_exception(error)
        self._progress.set()

    def _stop(self) -> None:
        if not self._loop.is_closed():  # a loop that ended with its process' tasks still there
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)


def _quick_acknowledge(connection: socket.socket) -> None:
    if _QUICKACK is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def _is_apdu(message: bytes) -> bool:
    return message not in _CONTROLS


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """End tasks and take their results, whatever they are: the caller has seen what matters.

    All are told to end before any is waited for: a caller that is cancelled here leaves none running.
    """
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
