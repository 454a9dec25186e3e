"""What opening a card costs: Argon2id's parameters, time and memory here, and what a repeated PIN costs.

``python -m bench.card_argon2``.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.keys_system import DeviceSecret, Level
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.commands import Algorithm
from agent.vsc.state import Argon2Cost
from agent.vsc.store import CardStore

PIN: Final = b"123456"
_SELECT: Final = bytes.fromhex("00A4040005A000000308")
_VERIFY: Final = bytes.fromhex("0020008008") + PIN + b"\xff\xff"
_SIGN: Final = bytes.fromhex("0087119C267C2482008120") + bytes(32) + b"\x00"


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        cost: Argon2id's parameters of the card.
        first: median seconds of the first VERIFY after power.
        again: median seconds of a later one.
        signature: median seconds of PIN and signature with 9C, as programs do them each time.
        memory_kib: by how much the peak of memory rose with the first VERIFY.
    """

    cost: Argon2Cost
    first: float
    again: float
    signature: float
    memory_kib: int

    def __str__(self) -> str:
        """In two lines."""
        return (
            f"argon2id: {self.cost.memory_kib} KiB, {self.cost.passes} passes, {self.cost.lanes} lanes: "
            f"first VERIFY {self.first * 1000:.0f} ms, peak memory +{self.memory_kib} KiB\n"
            f"argon2id: VERIFY again {self.again * 1000:.2f} ms; VERIFY and signature with 9C "
            f"{self.signature * 1000:.2f} ms: {self.first / self.signature:.0f} times less than one opening"
        )


def measure(folder: Path, cost: Argon2Cost, rounds: int) -> Figures:
    """Make a card of that cost and use it.

    Args:
        folder: an existing empty one.
        cost: of Argon2id.
        rounds: how often each thing is measured.
    """
    store = CardStore(folder / "cards", DeviceSecret(bytes(32), Level.FILE))
    pin, puk = bytearray(PIN), personalise.random_puk()
    cheap = personalise.create(store, label="bench", pin=pin, puk=puk, cost=Argon2Cost(1, 64, 1))
    _timed(cheap, [_SELECT, _VERIFY])
    before = _peak_kib()
    card = personalise.create(store, label="bench", pin=pin, puk=puk, cost=cost)
    memory = _peak_kib() - before
    personalise.generate(card, 0x9C, Algorithm.P_256)
    firsts = []
    for _ in range(rounds):
        card.reset()
        _timed(card, [_SELECT])
        firsts.append(_timed(card, [_VERIFY]))
    agains = [_timed(card, [_VERIFY]) for _ in range(rounds)]
    signatures = [_timed(card, [_VERIFY, _SIGN]) for _ in range(rounds)]
    first, again, signature = (statistics.median(times) for times in (firsts, agains, signatures))
    return Figures(cost, first, again, signature, memory)


def _timed(card: VirtualCard, commands: list[bytes]) -> float:
    begin = time.perf_counter()
    answers = [card.transmit(command) for command in commands]
    taken = time.perf_counter() - begin
    if any(answer[-2:] != b"\x90\x00" for answer in answers):
        raise AssertionError([answer[-2:].hex() for answer in answers])
    return taken


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> int:
    """Measure the cost that cards have by default."""
    with tempfile.TemporaryDirectory() as folder:
        print(measure(Path(folder), Argon2Cost(), 9))
    return 0


if __name__ == "__main__":
    sys.exit(main())
