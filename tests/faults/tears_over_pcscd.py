"""`tests.faults.tears` over a real pcscd with vpcd: each instruction once, in the first job that has it.

One that only asks, or finds out whether the card knows it, is another one than the same that brings a key or a proof,
or uses a key. Those that bring a PIN or PUK are disturbed in every job. The number of an APDU says nothing there,
because what looks for cards sends some, too: the first APDU of an instruction is disturbed, whoever sends it. A card
that was torn out is put back once pcscd has seen that it went, as by a hand: see `tests.support.wired_server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.faults.tear_jobs import JOBS, SIDES, Job, Position, Row
from tests.faults.tear_judgement import Card
from tests.faults.tears import Tears
from tests.support.agent_parts import PcscReadersOfATest
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd
from tests.support.simulated_readers import SimulatedReaders
from tests.support.wired_server import BRINGS, USES_KEY, WiredServer, kind

BRINGS_SECRET: Final = frozenset({0x20 + BRINGS, 0x24, 0x2C})
"""VERIFY with a PIN, CHANGE REFERENCE DATA, RESET RETRY COUNTER."""
_BROUGHT: Final = {0x20: "with PIN", 0x87: "with a proof", 0xFE: "with a key", 0xFF: "with a key"}
"""What an instruction with `BRINGS` brings."""


class ByInstruction(Position):
    """``apdu`` is an instruction here; see `tests.support.wired_server.kind`."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self.job} {self.mode} {self.side} INS {_named(self.apdu)}"


class OverPcscd(Tears):
    """The card is behind pcscd while it is disturbed."""

    def __init__(self, portal: FakePortal, folder: Path, port: int) -> None:
        super().__init__(portal, folder)
        self._port = port

    async def instructions(self, name: str) -> list[int]:
        """Which instructions a job has, undisturbed, in the order of their first use; those of looks for it, too."""
        job, readers = JOBS[name], SimulatedReaders()
        watched = await self._card(job)
        readers.put(watched.card)
        async with self._agent(readers) as (agent, _):
            assert await self._order(agent, job) == "finished"
        return list(dict.fromkeys(map(kind, watched.card.commands)))

    async def _disturbed(self, job: Job, at: Position, watched: Card) -> Path:
        disturbance, done = self._disturbance(at, watched), False

        def once(command: int) -> str | None:
            nonlocal done
            if done or command != at.apdu:
                return None
            done = True
            return disturbance(command)

        def look(_command: int, _side: str) -> bool:
            watched.look()
            return False

        server = WiredServer(watched.card, self._port)
        server.tear, server.disturb = once, look
        await asyncio.to_thread(server.__enter__)
        try:
            return await self._ordered(PcscReadersOfATest(), job, at)
        finally:
            await asyncio.to_thread(server.__exit__)

    def _served(self, watched: Card) -> WiredServer:
        return WiredServer(watched.card, self._port)


async def tear(
    jobs: list[str], modes: list[str], every: int, tell: Callable[[str], None], folder: Path, port: int
) -> list[Row]:
    """Run; what each position came to."""
    rows: list[Row] = []
    async with FakePortal(ThrowAwayCA(folder)) as portal:
        tears = OverPcscd(portal, folder, port)
        known: set[int] = set()
        plan: list[Position] = []
        for job in jobs:
            fresh = [
                each for each in await tears.instructions(job) if each not in known or each in BRINGS_SECRET
            ]
            known.update(fresh)
            tell(f"{job}: instructions {', '.join(map(_named, fresh))}")
            plan += [
                ByInstruction(job, each, side, mode) for each in fresh for side in SIDES for mode in modes
            ]
        for number, at in enumerate(plan[::every]):
            row = await tears.run(at)
            rows.append(row)
            if row.faults or number % 10 == 0:
                tell(str(row))
    return rows


def _named(instruction: int) -> str:
    name = f"{instruction & 0xFF:02X}"
    if instruction & USES_KEY:
        return f"{name} with a key"
    return f"{name} {_BROUGHT[instruction & 0xFF]}" if instruction & BRINGS else name


def run(
    jobs: list[str], modes: list[str], every: int, tell: Callable[[str], None], folder: Path
) -> list[Row]:
    """Run with a pcscd of its own; the test run's namespaces have been entered."""
    with PrivatePcscd(folder) as pcscd:
        return asyncio.run(tear(jobs, modes, every, tell, folder, pcscd.vpcd_port))
