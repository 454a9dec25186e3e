"""The agent's private socket: commands of the same user, one JSON line each, and nobody else's.

The socket is 0600 in a 0700 folder, the peer's user is asked of the kernel, and a lock beside the socket keeps
a second agent away. A terminal's descriptor may come along with a request (SCM_RIGHTS).

Wire: ``{"method": …, "params": {…}}``; back ``{"result": {…}}`` or ``{"error": {"error", "message", "why",
"next_step"}}``. Where the answer takes a person, ``{"result": {"hold": true}}`` comes first.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

from agent.conversation import Conversation
from agent.desktop import paths
from agent.environment import allowed
from agent.errors import as_inlay_error
from agent.order_ports import PrivateRequest
from agent.ports import UserEnvironment
from protocol import codec
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from agent.environment import LastEnvironment
    from agent.handlers.registry import PrivateHandler
    from agent.order_ports import Ending, Services

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

REQUEST_SECONDS: Final = 5
_ENDING_SECONDS: Final = 10.0
"""How long another agent may take to end: operations of its cards under way end first."""
_ENDING_PAUSE: Final = 0.1
_BACKLOG: Final = 16
_MAX_CONNECTIONS: Final = 32
_READ_BYTES: Final = 65_536
_MAX_DESCRIPTORS: Final = 4
_CREDENTIALS: Final = struct.Struct("3i")


class AlreadyRunningError(Exception):
    """Another agent of this user is running."""


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    method: str
    params: dict[str, Any] = {}


class _Received(NamedTuple):
    line: bytes
    terminal: int | None


class PrivateSocket:
    """The listening socket."""

    def __init__(
        self, services: Services, handlers: Mapping[str, PrivateHandler], last: LastEnvironment
    ) -> None:
        """Prepare; `listen` begins.

        Args:
            services: what handlers work with.
            handlers: method to handler.
            last: told of each environment.
        """
        self._services = services
        self._handlers = handlers
        self._last = last
        self._lock_file: int | None = None
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Take the lock, make the socket, and listen. An agent that is just ending is waited for.

        Raises:
            AlreadyRunningError: another agent of this user has the lock.
            UnsafePath: the folder isn't this user's alone.
            OSError: the socket can't be made.
        """
        folder = paths.prepare_runtime_directory()
        path = paths.socket_path()
        self._lock_file = await _lock_when_free(f"{folder}/agent.lock", path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # whose lock is free isn't running
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        listening.setblocking(False)
        listening.listen(_BACKLOG)
        self._socket = listening
        self._accepting = asyncio.create_task(self._accept(listening))

    async def close(self) -> None:
        """Stop listening, and remove the socket; the lock stays until `release`."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait({self._accepting})
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        if self._socket is not None:
            self._socket.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(paths.socket_path())

    def release(self) -> None:
        """Let the next agent start: everything of this one is closed."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            if len(self._connections) >= _MAX_CONNECTIONS or _peer_user(connection) != os.geteuid():
                connection.close()
                continue
            connection.setblocking(False)
            task = asyncio.create_task(self._serve(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    received = await _receive(connection)
            except (OSError, EOFError, TimeoutError):
                return
            try:
                await self._answer(connection, received)
            except OSError:
                _LOG.debug("a command went away before its answer")

    async def _answer(self, connection: socket.socket, received: _Received) -> None:
        try:
            result = await self._perform(connection, received)
        except Exception as cause:
            await _send(connection, {"error": error_object(as_inlay_error(cause))})
        else:
            await _send(connection, {"result": result})
        finally:
            if received.terminal is not None:
                os.close(received.terminal)

    async def _perform(self, connection: socket.socket, received: _Received) -> dict[str, Any]:
        request = codec.decode(received.line, _Request)
        handler = self._handlers.get(request.method)
        if handler is None:
            raise InlayError("method_unknown")
        private = self._private_request(request, received.terminal)
        outcome = await handler(self._services, private)
        if isinstance(outcome, dict):
            return outcome
        if isinstance(outcome, Conversation):
            await _send(connection, {"result": {"hold": True}})
            try:
                return await _while_connected(connection, outcome, outcome.wait())
            finally:
                outcome.abandon()  # the agent ends
        return await self._ended(connection, private, outcome)

    def _private_request(self, request: _Request, terminal: int | None) -> PrivateRequest:
        params = dict(request.params)
        handed = params.pop("environment", {})
        if not isinstance(handed, dict):
            raise InlayError("params_invalid", path="$.environment")
        variables = allowed(handed)
        self._last.learn(variables)
        return PrivateRequest(params, UserEnvironment(variables, terminal))

    async def _ended(
        self, connection: socket.socket, request: PrivateRequest, ending: Ending
    ) -> dict[str, Any]:
        """An accepted code: answered at once, or in the end when it is asked on the caller's terminal."""
        if request.environment.tty is not None and not request.environment.has_display:
            await _send(connection, {"result": {"hold": True}})
            await _while_connected(connection, ending, ending.wait())
        return {"accepted": True}


def error_object(error: InlayError) -> dict[str, str]:
    """An error as commands have it: code, and what happened, why, what to do next."""
    return {
        "error": error.code,
        "message": error.happened,
        "why": error.why,
        "next_step": error.next_step,
    }


async def _lock_when_free(lock: str, socket_: str) -> int:
    """Take the lock; who has it and listens no more is about to end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _ENDING_SECONDS
    while True:
        try:
            return _take_lock(lock)
        except AlreadyRunningError:
            if _listens(socket_) or loop.time() > until:
                raise
        await asyncio.sleep(_ENDING_PAUSE)


def _listens(socket_: str) -> bool:
    return os.path.lexists(socket_)


def _take_lock(path: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise AlreadyRunningError from None
    return descriptor


def _peer_user(connection: socket.socket) -> int:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(raw)[1]
    return user


async def _receive(connection: socket.socket) -> _Received:
    """Read one line, and the terminal's descriptor beside it.

    Raises:
        EOFError: the peer closed, or sent too much.
        OSError: the connection broke.
    """
    buffered, descriptors = b"", []
    try:
        while b"\n" not in buffered:
            if len(buffered) > codec.MAX_FRAME_BYTES:
                raise EOFError
            data, found = await _receive_piece(connection)
            descriptors += found
            if not data:
                raise EOFError
            buffered += data
        terminals = [item for item in descriptors if os.isatty(item)]
        terminal = terminals[0] if terminals else None
        descriptors = [item for item in descriptors if item != terminal]
        return _Received(buffered.partition(b"\n")[0], terminal)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


async def _receive_piece(connection: socket.socket) -> tuple[bytes, list[int]]:
    space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
    while True:
        try:
            data, ancillary, _, _ = connection.recvmsg(_READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            await _readable(connection)
            continue
        found = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
        return data, list(found)


async def _while_connected(
    connection: socket.socket, ending: Ending | Conversation, waiting: Awaitable[T]
) -> T:
    """Wait for the end; a command that goes away (Ctrl-C) takes the terminal, or its window, with it."""
    ended = asyncio.ensure_future(waiting)
    gone = asyncio.create_task(_readable(connection))  # a command says nothing more: this is its end
    try:
        await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            ending.abandon()
        return await ended
    finally:
        gone.cancel()
        ended.cancel()


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


async def _send(connection: socket.socket, answer: dict[str, Any]) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, codec.encode(answer) + b"\n")
