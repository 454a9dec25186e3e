"""The agent killed at the journal's boundaries around the point of no return of *change PIN*: a real process each time.

Whatever the moment, the order ends at the portal without a hand, and the card has the old PIN where it was undone, the
new one where it was finished.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.device import Device
from agent.vsc.card import VirtualCard
from agent.vsc.store import CardStore
from protocol import link
from protocol.messages import Binding, ChangePin, OrderState, PinPolicy, StorageLevel
from tests.faults.plan import Boundary, Phase, Plan, PlanFolder
from tests.support.agent_parts import CODE
from tests.support.certificates import ThrowAwayCA
from tests.support.daemon_process import PIN, DaemonProcess, TerminalOrder
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal

MOMENTS: list[tuple[str, Phase, bool]] = [
    ("step change pin before", "before", False),
    ("step change pin before", "after", False),
    ("step change pin after", "before", True),
    ("step change pin after", "after", True),
    ("store_sent receipted", "before", True),
    ("store_sent receipted", "after", True),
]
"""Boundary, side of it, and whether the card has the new PIN then."""
ENDED = (OrderState.FINISHED, OrderState.UNDONE)


@pytest.fixture
async def portal(https_ca: ThrowAwayCA) -> AsyncIterator[FakePortal]:
    async with FakePortal(https_ca) as running:
        running.keys = [AUTHENTICATION]
        yield running


@pytest.fixture
async def daemon(tmp_path: Path, portal: FakePortal) -> AsyncIterator[DaemonProcess]:
    """An agent with the hook around its journal, and a card of this portal."""
    hook = Path(__file__).with_name("hook.py")
    process = DaemonProcess(tmp_path, [str(hook), str(tmp_path), "agent"])
    await process.start_again()
    await process.trust(portal.origin, portal.tls.ca_file)
    terminal = TerminalOrder(process, link.build(portal.portal, CODE))
    await terminal.begin()
    await terminal.type_pin()
    await terminal.end()
    yield process
    await asyncio.to_thread(process.stop)


def has_pin(daemon: DaemonProcess, folder: Path, pin: bytes) -> bool:
    """Whether a copy of the card takes a PIN; the card itself isn't asked."""
    (file,) = daemon.card_files()
    folder.mkdir(exist_ok=True)
    shutil.copy(file, folder)
    secret = Device(daemon.state, allow_file=True).secret(StorageLevel.FILE)
    card = VirtualCard.load(CardStore(folder, secret), file.stem)
    card.transmit(bytes.fromhex("00A4040005A000000308"))
    return card.transmit(bytes.fromhex("0020008008") + pin.ljust(8, b"\xff")) == b"\x90\x00"


@pytest.mark.timeout(180)
async def test_the_order_ends_as_the_card_stands(
    daemon: DaemonProcess, portal: FakePortal, tmp_path: Path
) -> None:
    (shown,) = (await daemon.ask("cards.show", {"card": None}))["result"]["cards"]
    portal.binding = Binding.NONE
    portal.operation = ChangePin(card="card-1", guid=shown["guid"], label="Card", pin_policy=PinPolicy())
    plans, pin, pins = PlanFolder(tmp_path), PIN, iter([b"new-%d" % number + b"!!" for number in range(9)])
    for number, (name, phase, passed) in enumerate(MOMENTS, 1):
        new, code = next(pins), f"{number:022d}"
        plans.arm(Plan(number, Boundary("agent", name, 1, phase), "agent", {"agent": daemon.pid}))
        terminal = TerminalOrder(daemon, link.build(portal.portal, code))
        await terminal.begin()
        await terminal.answer(b"PIN of the card", pin)
        await terminal.type_pin(new)
        await daemon.wait()
        terminal.close()
        assert plans.fired() is not None, plans.trace()
        plans.disarm()
        daemon.kill()  # it has ended: only the test's own record of it
        await daemon.start_again()
        at = await portal.orders[code].until(lambda item: item.state in ENDED)
        assert (at.state is OrderState.FINISHED) == passed, (name, phase)
        pin = new if passed else pin
        assert await asyncio.to_thread(has_pin, daemon, tmp_path / f"copy-{number}", pin), (name, phase)
