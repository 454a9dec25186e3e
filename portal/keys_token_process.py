"""The token's module in a process of its own: one call at a time, each with a deadline, started anew when it is gone.

The portal's keys sign in the middle of other work, so a call blocks its caller: for ``seconds`` at the most, and not at
all while the token is away, when the module is started anew beside it. The process is started and spoken to by one
thread that lives as long as this object: the kernel ends the child with the thread that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any, Final

from portal.keys import KeyStoreError, KeysUnavailableError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

REST_SECONDS: Final = 5.0
"""How long nothing is asked after the token didn't answer."""
_START_SECONDS: Final = 15.0
_MAX_FRAME: Final = 1 << 20
_PIN_REFUSED: Final = frozenset({0xA0, 0xA2, 0xA3, 0xA4})
"""CKR_PIN_INCORRECT, _LEN_RANGE, _EXPIRED, _LOCKED (PKCS#11 v3.1, 5.1.6)."""
_AWAY: Final = frozenset({0x30, 0x31, 0x32, 0xB0, 0xB3, 0xE0, 0xE1, 0x101, 0x190})
"""CKR_DEVICE_ERROR, _MEMORY, _REMOVED, SESSION_CLOSED, _HANDLE_INVALID, TOKEN_NOT_PRESENT,
_NOT_RECOGNIZED, USER_NOT_LOGGED_IN, CRYPTOKI_NOT_INITIALIZED: a fresh session may do."""
_ENVIRONMENT: Final = ("HOME", "LANG", "PATH", "SOFTHSM2_CONF")
"""What a maker's module may know of the portal's environment."""


class TokenRefusedError(Exception):
    """The token doesn't do this with this key, now or later.

    Attributes:
        call: the PKCS#11 function.
        code: its answer.
    """

    def __init__(self, call: str, code: int) -> None:
        super().__init__(call, code)
        self.call = call
        self.code = code


class TokenMissingError(Exception):
    """There is no such token or key."""


class TokenProcess:
    """The module's process and the session on its token.

    Args:
        module: the module's file.
        label: the token's label.
        pin: of the token's user.
        seconds: how long it may take for one call.
    """

    def __init__(self, module: Path, label: str, pin: bytes, seconds: float) -> None:
        self.module = module
        self._label = label
        self._pin = pin
        self._seconds = seconds
        self._one = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="token")
        self._running: list[subprocess.Popen[bytes]] = []
        weakref.finalize(self, _end, self._running)
        self._starting: Future[None] | None = None
        self._not_before = 0.0
        self._pin_refused = False

    def open(self) -> None:
        """Start the module and log in, and wait for it; only for a portal that isn't serving yet.

        Raises:
            KeysUnavailableError: the token is away, or didn't answer in time.
            KeyStoreError: ``pin_wrong``.
        """
        with self._one:
            if self._pin_refused:
                raise KeyStoreError("pin_wrong", self.module)
            if not self._running:
                self._wait(self._thread.submit(self._start), _START_SECONDS)

    def call(self, operation: str, **arguments: Any) -> Any:
        """Make one call, and wait for its answer. Nothing is repeated by itself.

        Args:
            operation: a name of ``portal.keys_token_child.Token.OPERATIONS``.
            arguments: the call's.

        Raises:
            KeysUnavailableError: the token is away, or didn't answer in time.
            TokenRefusedError: it refused.
            TokenMissingError: it has no such key.
            KeyStoreError: ``token_missing``, or ``pin_wrong``.
        """
        with self._one:
            if self._pin_refused:  # each try may be the last one
                raise KeyStoreError("pin_wrong", self.module)
            if self._starting is not None or not self._running:
                self._start_beside()
            answer = self._wait(self._thread.submit(self._exchange, operation, arguments), self._seconds)
            return self._result(answer)

    def renew(self) -> None:
        """Have the next call open a session anew: this one refuses what it must be able to do."""
        with self._one:
            self._drop()

    def close(self) -> None:
        """End the process; the object isn't used any more."""
        with self._one:
            self._drop()
        self._thread.shutdown()

    def _start_beside(self) -> None:
        """Return once a module that is started beside the callers has started; until then they don't wait for it.

        Raises:
            KeysUnavailableError: it hasn't yet.
        """
        now = time.monotonic()
        if self._starting is None and now >= self._not_before:
            self._starting, self._not_before = self._thread.submit(self._start), now + _START_SECONDS
        elif self._starting is not None and (self._starting.done() or now >= self._not_before):
            started, self._starting = self._starting, None
            self._wait(started, 0)
            return
        raise KeysUnavailableError("away")

    def _wait(self, work: Future[Any], seconds: float) -> Any:
        try:
            return work.result(seconds)
        except KeyStoreError:
            self._drop()
            raise
        except FutureTimeout:
            self._drop()  # which ends the thread's reading, too
            raise KeysUnavailableError("timeout") from None
        except (OSError, EOFError, ValueError):
            self._drop()
            raise KeysUnavailableError("away") from None

    def _result(self, answer: dict[str, Any]) -> Any:
        if "missing" in answer:
            raise TokenMissingError
        if "refused" in answer:
            if answer["refused"] in _AWAY:
                self._drop()
                raise KeysUnavailableError(answer["call"])
            raise TokenRefusedError(answer["call"], answer["refused"])
        return answer["result"]

    def _start(self) -> None:
        """In the thread: start the child, and log in."""
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        child = subprocess.Popen(
            [sys.executable, "-I", "-m", "portal.keys_token_child", str(self.module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what a module prints may hold anything
            env=environment,
        )
        self._running.append(child)
        loaded = _receive(_pipe(child.stdout))
        if "refused" in loaded:
            raise EOFError
        opened = self._exchange("open", {"label": self._label, "pin": self._pin.hex()})
        if opened.get("refused") in _PIN_REFUSED:
            self._pin_refused = True
            raise KeyStoreError("pin_wrong", self.module)
        if "missing" in opened or "refused" in opened:
            raise EOFError

    def _exchange(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """In the thread: one request, one answer."""
        if not self._running:
            raise EOFError
        child = self._running[0]
        text = json.dumps({"operation": operation, "arguments": arguments}).encode()
        pipe = _pipe(child.stdin)
        pipe.write(len(text).to_bytes(4, "big") + text)
        pipe.flush()
        return _receive(_pipe(child.stdout))

    def _drop(self) -> None:
        """End the child, if there is one, and rest."""
        self._not_before = time.monotonic() + REST_SECONDS
        children = self._running[:]
        self._running.clear()
        for child in children:
            child.kill()
            child.wait()
        # the thread may still read: it gets the end of the pipe, and the pipes are closed behind it
        self._thread.submit(_end, children)


def _receive(pipe: IO[bytes]) -> dict[str, Any]:
    head = pipe.read(4)
    length = int.from_bytes(head, "big")
    if len(head) < 4 or length > _MAX_FRAME:
        raise EOFError
    answer: dict[str, Any] = json.loads(pipe.read(length))
    return answer


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):  # what was not written yet can't be any more
                _pipe(pipe).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    """A pipe that was asked for when the process was started."""
    if pipe is None:
        raise OSError
    return pipe
