"""A code that the order desk has accepted, and the terminal that it came from."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import os
from typing import TYPE_CHECKING

from agent.order_ports import Cancellable
from agent.orders import OrderRun
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.order_ports import Submission
    from agent.ports import OrderPrompt, WindowSession


class ActiveOrder:
    """A code that was accepted, and what becomes of it; see ``agent.order_ports.Ending``."""

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.run: OrderRun | None = None
        self.ended: asyncio.Future[InlayError | None] = asyncio.get_running_loop().create_future()
        self._code = _digest(submission)
        self._abandoned = False

    def same_code(self, submission: Submission) -> bool:
        """Whether this is the very code that was accepted."""
        return self._code == _digest(submission)

    @property
    def blocking(self) -> bool:
        """Whether another order has to wait: until the receipt was sent."""
        return not self.ended.done() and (self.run is None or self.run.may_undo)

    def abandon(self) -> None:
        """The command in whose terminal the person was asked has gone: the order's terminal closes."""
        self._abandoned = True
        if self.run is not None and isinstance(self.run.window, Cancellable):
            self.run.window.cancel()

    def show(self, run: OrderRun, window: WindowSession, prompt: OrderPrompt) -> None:
        """The order has its window now."""
        run.opened(window, prompt)
        if self._abandoned:
            self.abandon()

    async def wait(self) -> None:
        """Wait for the end.

        Raises:
            InlayError: why it failed.
        """
        error = await asyncio.shield(self.ended)
        if error is not None:
            raise error


def with_own_terminal(submission: Submission) -> Submission:
    """The same with a descriptor of the terminal that is the desk's own."""
    terminal = submission.environment.tty
    if terminal is None:
        return submission
    environment = dataclasses.replace(submission.environment, tty=os.dup(terminal))
    return dataclasses.replace(submission, environment=environment)


def close_terminal(submission: Submission) -> None:
    """Close the desk's own descriptor of a terminal: a window has another one."""
    if submission.environment.tty is not None:
        with contextlib.suppress(OSError):
            os.close(submission.environment.tty)


def _digest(submission: Submission) -> bytes:
    return hashlib.sha256(f"{submission.portal}/{submission.code}".encode()).digest()
