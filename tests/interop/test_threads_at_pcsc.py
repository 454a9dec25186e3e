"""Several threads of one process at the PC/SC service: nothing that one of them closes breaks another one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from agent.pcsc import scard
from tests.cards.profiles import PROFILES
from tests.cards.simulated import SimulatedCard
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard

pytestmark = pytest.mark.interop

ROUNDS = int(os.environ.get("PCSC_ROUNDS", "300"))
"""Without the lock in `agent.pcsc.scard` one of two runs with 4000 ended by a signal."""
PROGRAM = """
import sys, threading
from agent.pcsc import scard

ended = []

def sessions(reader):
    for _ in range(int(sys.argv[1])):
        with scard.connect(reader) as card:
            card.atr()
    ended.append(reader)

def looks():
    for _ in range(int(sys.argv[1])):
        scard.list_readers()
    ended.append(None)

threads = [threading.Thread(target=sessions, args=(reader,)) for reader in sys.argv[2:] * 3]
threads += [threading.Thread(target=looks) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(ended))
"""
"""A process of its own: what it is kept from ends the process (a segmentation fault in libpcsclite)."""


@pytest.fixture
def readers(pcscd: PrivatePcscd) -> Iterator[list[str]]:
    with ExitStack() as cards:
        for port in pcscd.vpcd_ports[:2]:
            cards.enter_context(WiredCard.simulated(port, SimulatedCard(PROFILES[0])))
        wait_until(lambda: sum(item.present for item in scard.list_readers()) == 2, "two cards")
        yield list(pcscd.readers[:2])


def test_sessions_and_looks_at_the_same_time_end_in_good_order(readers: list[str]) -> None:
    argv = [sys.executable, "-X", "faulthandler", "-c", PROGRAM, str(ROUNDS), *readers]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "10"), done.stderr
