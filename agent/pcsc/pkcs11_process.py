"""A vendor's PKCS#11 module in a process of its own: started when it is needed, given a deadline, started anew.

What a module does to its process stays there: a crash or a call without an answer becomes a named error, the process is
ended, and the next call finds a fresh one. Nothing is repeated by itself: whoever called knows whether the call may be
made again, and a PIN never is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.pcsc.pkcs11_errors import error_of
from protocol.errors import InlayError

CALL_SECONDS: Final = 15.0
"""How long a module may take for an ordinary call; a card with a PIN pad waits for a person, see ``Process.call``."""
_MAX_FRAME: Final = 1 << 20
_ENDING_SECONDS: Final = 2.0

P = TypeVar("P", asyncio.StreamReader, asyncio.StreamWriter)


class Process:
    """One module and its process.

    Attributes:
        path: the module's file.
        starts: how many processes there were; a session lives as long as its process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts = 0
        self._child: asyncio.subprocess.Process | None = None
        self._one = asyncio.Lock()

    @property
    def runs(self) -> bool:
        """Whether there is a process, and it hasn't ended."""
        return self._child is not None and self._child.returncode is None

    async def call(
        self,
        operation: str,
        *,
        seconds: float = CALL_SECONDS,
        known: dict[str, str] | None = None,
        **arguments: Any,
    ) -> Any:
        """Make one call, and wait for its answer.

        Args:
            operation: a name of ``agent.pcsc.pkcs11_child.OPERATIONS``.
            seconds: how long it may take.
            known: what an error's text may need besides, as for ``agent.pcsc.pkcs11_errors.error_of``.
            arguments: the call's.

        Raises:
            InlayError: what the module answered, ``pkcs11_module_missing``, ``pkcs11_module_unsafe``,
                ``pkcs11_module_crashed`` or ``pkcs11_module_hung``. After the last two nobody knows whether the
                call was carried out.
        """
        async with self._one:
            child = await self._running(seconds)
            answer = await self._exchange(
                child, operation, {"operation": operation, "arguments": arguments}, seconds
            )
        if "refused" in answer:
            raise error_of(answer["call"], answer["refused"], **{"module": self.path.name, **(known or {})})
        if "missing" in answer:
            raise InlayError("card_key_missing", slot=str(arguments.get("key", "?")).upper()[:8])
        return answer["result"]

    async def close(self) -> None:
        """End the process; the next call starts another."""
        async with self._one:
            child, self._child = self._child, None
            if child is None:
                return
            await _end(child, _ENDING_SECONDS)

    async def _running(self, seconds: float) -> asyncio.subprocess.Process:
        child = self._child
        if child is not None and child.returncode is None:
            return child
        if not self.path.is_file():
            raise InlayError("pkcs11_module_missing", module=self.path.name)
        if _others_may_write(self.path):
            raise InlayError("pkcs11_module_unsafe", module=self.path.name)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-m",
            "agent.pcsc.pkcs11_child",
            str(self.path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # what a module prints may hold anything
            env=_environment(),
            limit=_MAX_FRAME,
        )
        self._child = child
        self.starts += 1
        answer = await self._exchange(child, "C_Initialize", None, seconds)
        if "refused" in answer:
            await self._discard(child)
            raise InlayError("pkcs11_module_missing", module=self.path.name)
        return child

    async def _exchange(
        self, child: asyncio.subprocess.Process, call: str, request: dict[str, Any] | None, seconds: float
    ) -> dict[str, Any]:
        """Send a request, if there is one, and read the answer. Whatever disturbs it ends the process."""
        try:
            async with asyncio.timeout(seconds):
                if request is not None:
                    await _send(child, request)
                return await _receive(child)
        except TimeoutError:
            await self._discard(child)
            raise InlayError(
                "pkcs11_module_hung", module=self.path.name, call=call, seconds=int(seconds)
            ) from None
        except (OSError, EOFError, ValueError):
            await self._discard(child, seconds=_ENDING_SECONDS)
            raise InlayError("pkcs11_module_crashed", module=self.path.name, call=call) from None
        except asyncio.CancelledError:  # the answer to this call must not be taken for the next one's
            await self._discard(child)
            raise

    async def _discard(self, child: asyncio.subprocess.Process, *, seconds: float = 0) -> None:
        if self._child is child:
            self._child = None
        await asyncio.shield(_end(child, seconds))


async def _send(child: asyncio.subprocess.Process, request: dict[str, Any]) -> None:
    pipe = _pipe(child.stdin)
    text = json.dumps(request).encode()
    pipe.write(len(text).to_bytes(4, "big") + text)
    await pipe.drain()


async def _receive(child: asyncio.subprocess.Process) -> dict[str, Any]:
    pipe = _pipe(child.stdout)
    length = int.from_bytes(await pipe.readexactly(4), "big")
    if length > _MAX_FRAME:
        raise ValueError(length)
    answer: dict[str, Any] = json.loads(await pipe.readexactly(length))
    return answer


async def _end(child: asyncio.subprocess.Process, seconds: float) -> None:
    """End a process: it may end by itself for so long.

    One that ends in that moment isn't killed as well: to kill it asks how it has ended, and then nobody else is told.
    """
    _pipe(child.stdin).close()
    if seconds:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await child.wait()
                return
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()


def _pipe(pipe: P | None) -> P:
    """A pipe that was asked for when the process was started."""
    if pipe is None:
        raise OSError
    return pipe


def _others_may_write(path: Path) -> bool:
    """Whether somebody beside this user and administrators may change a module, which is told PINs, or exchange it."""
    real = path.resolve()
    ours = (0, os.geteuid())
    found = (real.stat(), real.parent.stat(), path.parent.stat())
    return any(status.st_uid not in ours or status.st_mode & 0o022 for status in found)


def _environment() -> dict[str, str]:
    """What a module may know of the person's session: where things are, and the language; never all of it."""
    names = (
        "HOME",
        "LANG",
        "PATH",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "PCSCLITE_CSOCK_NAME",
        "SOFTHSM2_CONF",
    )
    return {name: os.environ[name] for name in names if name in os.environ}
