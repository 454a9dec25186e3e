"""The hands of `tests.faults.kills` go on with what is asked, as a person does, whatever the page was answered."""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Iterator
from email.message import Message
from typing import TYPE_CHECKING, cast
from urllib.error import HTTPError, URLError

import pytest

from tests.faults.errands import BATCH
from tests.faults.hands import AtTerminal
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from bench.page import PortalPages
    from tests.support.daemon_process import DaemonProcess

FIRST, SECOND = (question for question, _ in BATCH.answers)
NUMBER = b"  Type 123 in the web page. If you did not start this, press Ctrl-C.\r\n"


class _Agent:
    """Asks at the terminal that it is given."""

    def __init__(self) -> None:
        self._socket, self._commands = socket.socketpair()

    def connect(self) -> socket.socket:
        return self._commands

    def terminal(self) -> int:
        _, [terminal], _, _ = socket.recv_fds(self._socket, 4096, 1)
        return terminal

    def close(self) -> None:
        self._socket.close()


class _Page:
    """Answers a number as it was told to; afterwards none is wanted."""

    def __init__(self, *answers: Exception | None) -> None:
        self._answers, self.typed = list(answers), list[str]()

    def number(self, number: str) -> None:
        self.typed.append(number)
        answer = self._answers.pop(0) if self._answers else _refused()
        if answer is not None:
            raise answer


def _refused() -> HTTPError:
    return HTTPError("https://portal.test", 409, "Conflict", Message(), io.BytesIO())


@contextlib.contextmanager
def _at_terminal(page: _Page) -> Iterator[int]:
    agent = _Agent()
    hands = AtTerminal(cast("DaemonProcess", agent), cast("PortalPages", page), "inlay:test", BATCH)
    hands.begin()
    terminal = agent.terminal()
    try:
        yield terminal
    finally:
        hands.stop()
        os.close(terminal)
        agent.close()


def _answered(terminal: int, question: bytes) -> bytes:
    """What is typed at a question."""
    os.write(terminal, question)
    return os.read(terminal, 100)


@pytest.mark.parametrize(
    "lost", [URLError("the portal was killed"), ConnectionResetError()], ids=["away", "cut"]
)
def test_a_number_that_was_taken_and_never_answered_keeps_nobody_from_the_next_question(
    lost: Exception,
) -> None:
    page = _Page(lost)
    with _at_terminal(page) as terminal:
        assert _answered(terminal, FIRST) == b"yes\n"
        os.write(terminal, NUMBER)
        wait_until(lambda: bool(page.typed), "the number to be typed")
        assert _answered(terminal, SECOND) == b"yes\n"
    assert set(page.typed) == {"123"}


def test_a_number_is_typed_until_it_is_taken() -> None:
    page = _Page(_refused(), URLError("away"), None)
    with _at_terminal(page) as terminal:
        _answered(terminal, FIRST)
        os.write(terminal, NUMBER)
        wait_until(lambda: len(page.typed) == 3, "the number to be taken")
        assert _answered(terminal, SECOND) == b"yes\n"
    assert page.typed == ["123"] * 3
