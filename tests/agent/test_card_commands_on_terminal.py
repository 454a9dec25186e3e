"""`inlay cards …` as a process on a terminal without a screen, the agent as another: what is asked, said and left."""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from protocol import link
from tests.support.agent_parts import CODE
from tests.support.daemon_process import PIN, DaemonProcess, TerminalOrder
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal

NEW, WRONG = b"k7mZ42", b"000000"
SECONDS = 30


class Command:
    """`inlay` on a pseudo-terminal that a test types into."""

    def __init__(self, daemon: DaemonProcess, *arguments: str) -> None:
        self._ours, theirs = os.openpty()
        environment = {
            "HOME": str(daemon.home),
            "XDG_RUNTIME_DIR": str(daemon.runtime),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent.desktop.link_handler", *arguments],
            env=environment,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(theirs)
        self.seen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._ours)

    def answer(self, question: bytes, text: bytes) -> None:
        """Wait for a question, and type a line."""
        self.until(question)
        os.write(self._ours, text + b"\n")

    def until(self, text: bytes) -> None:
        while text not in self.seen:
            assert select.select([self._ours], [], [], SECONDS)[0], self.seen
            self.seen += os.read(self._ours, 4096)
        self.seen = self.seen.partition(text)[2]

    def end(self) -> tuple[int, str, str]:
        """Exit status, output and errors."""
        said, complained = self._process.communicate(timeout=SECONDS)
        return self._process.returncode, said.decode(), complained.decode()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.kill()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path).start()
    yield process
    process.stop()


@pytest.fixture
async def card(daemon: DaemonProcess, portal: FakePortal) -> str:
    """An agent with a card; its serial number."""
    portal.keys = [AUTHENTICATION]
    await daemon.trust(portal.origin, portal.tls.ca_file)
    terminal = TerminalOrder(daemon, link.build(portal.portal, CODE))
    await terminal.begin()
    await terminal.type_pin()
    await terminal.end()
    (shown,) = (await daemon.ask("cards.show", {}))["result"]["cards"]
    serial: str = shown["serial"]
    return serial


def change_pin(daemon: DaemonProcess, card: str) -> None:
    with Command(daemon, "cards", "change-pin", card) as command:
        command.until(b"Change the PIN of a card")
        command.answer(b"PIN of the card", b"12345")
        command.until(b"The card was not asked.")
        command.answer(b"PIN of the card", WRONG)
        for question in (b"New PIN:", b"again:"):
            command.answer(question, NEW)
        command.until(b"! The PIN is wrong. 2 tries are left")
        command.answer(b"PIN of the card", PIN)
        for question in (b"New PIN:", b"again:"):
            command.answer(question, NEW)
        status, said, complained = command.end()
    assert (status, complained) == (0, "")
    assert said.startswith("The PIN is changed.\n")


def interrupted(daemon: DaemonProcess) -> None:
    with Command(daemon, "cards", "delete") as command:
        command.until(b"Delete? Type delete:")
        command.interrupt()


def refused(daemon: DaemonProcess) -> None:
    with Command(daemon, "cards", "change-pin", "--json") as command:
        for _ in range(3):
            command.answer(b"PIN of the card", WRONG)
            for question in (b"New PIN:", b"again:"):
                command.answer(question, PIN)
        status, said, _ = command.end()
    assert (status, json.loads(said)["error"]) == (1, "pin_blocked")


def delete(daemon: DaemonProcess, card: str) -> None:
    with Command(daemon, "cards", "delete", card) as command:
        command.until(b"Lost: Authentication certificate")
        command.until(b"is not told by this")
        command.answer(b"Delete? Type delete:", b"delete")
        status, said, _ = command.end()
    assert status == 0
    assert said.startswith("The card is deleted.\n")


@pytest.mark.timeout(180)
async def test_a_card_from_its_new_pin_to_its_end(daemon: DaemonProcess, card: str) -> None:
    await asyncio.to_thread(change_pin, daemon, card)
    await asyncio.to_thread(interrupted, daemon)
    assert len(daemon.card_files()) == 1
    await asyncio.to_thread(refused, daemon)
    (shown,) = (await daemon.ask("cards.show", {"card": card}))["result"]["cards"]
    assert (shown["pin_tries"], shown["puk_tries"]) == (0, 3)
    await asyncio.to_thread(delete, daemon, card)
    assert daemon.card_files() == []
    written = daemon.everything_written()
    assert PIN not in written
    assert NEW not in written
