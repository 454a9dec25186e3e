"""The daemon's end of a window: starts its process, sends it pages, receives consent and PIN.

`Windows` is the port `agent.ports.DialogWindow`: a window where there is a display, the caller's
terminal where there is none, and `NoDisplay` where there is neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.desktop import dialog_messages as messages
from agent.desktop import page_messages
from agent.desktop.display_text import clean
from agent.desktop.hardening import forbid_dumps
from agent.desktop.terminal_prompt import TerminalSession
from agent.ports import (
    CardChoice,
    CardSheet,
    CardSummary,
    CardWindow,
    Consented,
    InteractionError,
    NoDisplay,
    OrderPrompt,
    UserCancelled,
    UserEnvironment,
    WindowFailed,
    WindowSession,
)
from protocol.errors import InlayError

START_SECONDS = 15
"""How long a window may take to be ready; an X server that does not answer counts as none."""

END_SECONDS = 3
SECRET_SECONDS = 5


class Windows:
    """Opens windows for verified orders (`agent.ports.DialogWindow`)."""

    def __init__(self, *, appearance: str | None = None, scale: float | None = None) -> None:
        """Harden this process, which is going to receive PINs.

        Args:
            appearance: ``light`` or ``dark``; None follows the desktop.
            scale: factor for texts; None follows the desktop.

        Raises:
            HardeningFailed: the system refused.
        """
        forbid_dumps()
        self._options: list[str] = []
        if appearance is not None:
            self._options += ["--appearance", appearance]
        if scale is not None:
            self._options += ["--scale", str(scale)]

    async def open(self, request: OrderPrompt, environment: UserEnvironment) -> WindowSession:
        """See `agent.ports.DialogWindow.open`.

        Raises:
            ImpossiblePolicy: no PIN can keep the order's rules.
        """
        consent = page_messages.consent_message(request)
        return await self._open(consent, environment)

    async def open_error(self, error: InlayError, environment: UserEnvironment) -> WindowSession:
        """See `agent.ports.DialogWindow.open_error`."""
        session = await self._open(None, environment)
        await session.show_error(error)
        return session

    async def open_cards(self, environment: UserEnvironment) -> CardWindow:
        """See `agent.ports.DialogWindow.open_cards`."""
        return await self._open(None, environment)

    async def _open(self, consent: messages.Consent | None, environment: UserEnvironment) -> CardWindow:
        if environment.has_display:
            return await _start(consent, environment, self._options)
        if environment.tty is None:
            raise NoDisplay
        try:
            return TerminalSession(consent, os.dup(environment.tty))
        except OSError:
            raise WindowFailed(None) from None


async def _start(
    consent: messages.Consent | None, environment: UserEnvironment, options: list[str]
) -> WindowProcess:
    """Start the window's process with the caller's environment and nothing of the daemon's own.

    Raises:
        WindowFailed: it did not get ready.
    """
    control, their_control = socket.socketpair()
    secret, their_secret = socket.socketpair()
    variables = dict(environment.variables) | {"HOME": str(Path.home())}  # X's own files are there
    descriptors = (their_control.fileno(), their_secret.fileno())
    command = [sys.executable, "-I", "-m", "agent.desktop.dialogs"]
    command += ["--control", str(descriptors[0]), "--secret", str(descriptors[1]), *options]
    with their_control, their_secret:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                env=variables,
                pass_fds=descriptors,
            )
        except OSError:
            control.close()
            secret.close()
            raise WindowFailed(None) from None
    reader, writer = await asyncio.open_unix_connection(sock=control, limit=messages.MAX_LINE_BYTES)
    window = WindowProcess(consent, process, reader, writer, secret)
    await window.ready()
    return window


class WindowProcess:
    """A window in its own process (`agent.ports.CardWindow`)."""

    def __init__(
        self,
        consent: messages.Consent | None,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        secret: socket.socket,
    ) -> None:
        secret.setblocking(False)
        self._consent = consent
        self._process = process
        self._reader = reader
        self._writer = writer
        self._secret = secret
        self._failure: InteractionError | None = None
        self._closing = False
        self._secrets = 0
        self._page: str | None = None
        self._closed = asyncio.Event()
        self._started = asyncio.Event()
        self._answer: asyncio.Future[list[bytearray] | str] | None = None
        self._listener = asyncio.create_task(self._listen())

    @property
    def closed(self) -> asyncio.Event:
        """See `agent.ports.WindowSession.closed`."""
        return self._closed

    @property
    def failure(self) -> InteractionError | None:
        """See `agent.ports.WindowSession.failure`."""
        return self._failure

    @property
    def process_id(self) -> int:
        """The process id of the window, for diagnosis."""
        return self._process.pid

    @property
    def page(self) -> str | None:
        """The page that the window last said is on the screen, for diagnosis."""
        return self._page

    async def ready(self) -> None:
        """Wait until the window's process is ready for its first page.

        Raises:
            WindowFailed: it ended, or took longer than `START_SECONDS`.
        """
        waiting = {asyncio.create_task(self._started.wait()), asyncio.create_task(self._closed.wait())}
        await asyncio.wait(waiting, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if self._started.is_set():
            return
        await self.close()
        raise self._failure or WindowFailed(self._process.returncode)

    async def consent(self) -> Consented:
        """See `agent.ports.WindowSession.consent`."""
        if self._consent is None:
            raise RuntimeError("this window was opened without a question")
        return await self._consented(self._consent)

    async def ask(self, prompt: OrderPrompt) -> Consented:
        """See `agent.ports.WindowSession.ask`."""
        return await self._consented(page_messages.consent_message(prompt))

    async def choose(self, title: str, cards: Sequence[CardChoice], note: str | None = None) -> str:
        """See `agent.ports.WindowSession.choose`."""
        return str(await self._answered(page_messages.choose_message(title, cards, note)))

    async def show_card(self, sheet: CardSheet) -> str | None:
        """See `agent.ports.CardWindow.show_card`."""
        try:
            return str(await self._answered(page_messages.card_message(sheet)))
        except UserCancelled:
            return None

    async def show_done(self, title: str, lines: tuple[str, ...]) -> None:
        """See `agent.ports.WindowSession.show_done`."""
        await self._send(page_messages.done_message(title, lines))

    async def _consented(self, question: messages.Consent) -> Consented:
        self._secrets = int(question["known"] is not None) + int(question["rules"] is not None)
        answer = await self._answered(question)
        if not isinstance(answer, list):
            raise WindowFailed(None)
        pin = answer.pop() if question["rules"] is not None else None
        return Consented(pin, answer.pop() if answer else None)

    async def _answered(self, question: messages.ToWindow) -> list[bytearray] | str:
        """Show a page that asks, and wait for its answer: what was typed secretly, or what was chosen."""
        self._answer = answer = asyncio.get_running_loop().create_future()
        await self._send(question)
        waiter = asyncio.create_task(self._closed.wait())
        either: list[asyncio.Future[Any]] = [answer, waiter]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        if answer.done():
            self._answer = None
            found: list[bytearray] | str = answer.result()
            return found
        raise self._failure or UserCancelled("consent")

    async def show_number(self, number: str) -> None:
        """See `agent.ports.WindowSession.show_number`."""
        await self._send({"show": "number", "number": number})

    async def show_progress(
        self, step_id: str, text: str, done: int, total: int, *, can_cancel: bool = True
    ) -> None:
        """See `agent.ports.WindowSession.show_progress`."""
        message: messages.Progress = {
            "show": "progress",
            "step_id": step_id,
            "text": clean(text),
            "done": done,
            "total": max(total, 1),
            "can_cancel": can_cancel,
        }
        await self._send(message)

    async def show_details(self, details: CardSummary, puk: bytearray | None = None) -> None:
        """See `agent.ports.WindowSession.show_details`."""
        if puk is not None:
            try:
                await asyncio.get_running_loop().sock_sendall(self._secret, bytes((len(puk),)))
                await asyncio.get_running_loop().sock_sendall(self._secret, puk)
            except OSError:
                await self._lost()
            finally:
                puk[:] = bytes(len(puk))
        await self._send(page_messages.details_message(details, has_puk=puk is not None))

    async def show_error(self, error: InlayError) -> None:
        """See `agent.ports.WindowSession.show_error`."""
        await self._send(page_messages.failure_message(error))

    async def raise_window(self) -> None:
        """See `agent.ports.WindowSession.raise_window`."""
        await self._send({"show": "raise"})

    async def wait_closed(self) -> None:
        """See `agent.ports.WindowSession.wait_closed`."""
        await self._closed.wait()

    async def close(self) -> None:
        """See `agent.ports.WindowSession.close`."""
        self._closing = True
        if not self._closed.is_set():
            with contextlib.suppress(OSError):
                self._writer.write(b'{"show":"close"}\n')
                await self._writer.drain()
        try:
            await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._listener
        if self._answer is not None and self._answer.done() and isinstance(self._answer.result(), list):
            for secret in self._answer.result():
                _wipe(secret)

    # --- the wire ---

    async def _send(self, message: messages.ToWindow) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed.is_set():
            return
        self._writer.write(json.dumps(message).encode("ascii") + b"\n")
        try:
            await self._writer.drain()
        except OSError:
            await self._lost()

    async def _lost(self) -> None:
        """The other end is gone: the listener knows why."""
        await self._closed.wait()
        if self._failure is not None:
            raise self._failure

    async def _listen(self) -> None:
        """Take in events until the window's process has ended; then say how it ended."""
        finished = False
        try:
            while line := await self._reader.readline():
                event: messages.Event = json.loads(line)
                finished = await self._take(event) or finished
        except (OSError, ValueError, KeyError):
            self._process.kill()  # broken in the middle of a line: the exit status tells
        status = await self._process.wait()
        if not finished and not self._closing:
            self._failure = WindowFailed(status)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        self._secret.close()
        self._closed.set()

    async def _take(self, event: messages.Event) -> bool:
        """Act on one event; True when the window says that it goes away."""
        match event["event"]:
            case "ready":
                self._started.set()
            case "consented":
                self._answered_by([await self._receive_secret() for _ in range(self._secrets)])
            case "chosen":
                self._answered_by(event["card"])
            case "action":
                self._answered_by(event["action"])
            case "cancelled":
                self._failure = UserCancelled(event["step"])
                return True
            case "closed":
                return True
            case "shown":
                self._page = event["page"]
            case "hidden":
                self._page = None
            case _:
                raise ValueError
        return False

    def _answered_by(self, answer: list[bytearray] | str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
        elif isinstance(answer, list):
            for secret in answer:
                _wipe(secret)

    async def _receive_secret(self) -> bytearray:
        """Read a PIN or PUK from the secret socket straight into the buffer that is handed on."""
        loop = asyncio.get_running_loop()
        length = bytearray(1)
        async with asyncio.timeout(SECRET_SECONDS):
            if await loop.sock_recv_into(self._secret, length) != 1:
                raise ConnectionResetError
            pin = bytearray(length[0])
            got = 0
            while got < len(pin):
                count = await loop.sock_recv_into(self._secret, memoryview(pin)[got:])
                if not count:
                    raise ConnectionResetError
                got += count
        return pin


def _wipe(secret: bytearray | str) -> None:
    if isinstance(secret, bytearray):
        secret[:] = bytes(len(secret))
