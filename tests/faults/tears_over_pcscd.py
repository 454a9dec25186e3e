"""`tests.faults.tears` over a real pcscd with vpcd: each instruction once, in the first job that has it.

One that only asks, or finds out whether the card knows it, is another one than the same that brings a key or a proof,
or uses a key. Those that bring a PIN or PUK are disturbed in every job. The number of an APDU says nothing there,
because what looks for cards sends some, too: the first APDU of an instruction is disturbed, whoever sends it. A card
that was torn out is put back once pcscd has seen that it went, as by a hand: see `tests.support.wired_server`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.faults.tear_disturbance import Disturbance
from tests.faults.tear_jobs import SIDES, Position, Row
from tests.faults.tear_judgement import Card
from tests.faults.tear_processes import AgentForks
from tests.faults.tears import Agents, Tears
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.wired_server import BRINGS, USES_KEY, WiredServer, kind

BRINGS_SECRET: Final = frozenset({0x20 + BRINGS, 0x24, 0x2C})
"""VERIFY with a PIN, CHANGE REFERENCE DATA, RESET RETRY COUNTER."""
_BROUGHT: Final = {0x20: "with PIN", 0x87: "with a proof", 0xFE: "with a key", 0xFF: "with a key"}
"""What an instruction with `BRINGS` brings."""


class ByInstruction(Position):
    """``apdu`` is an instruction here; see `tests.support.wired_server.kind`."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self.job} {self.mode} {self.side} INS {named(self.apdu)}"


class OverPcscd(Tears):
    """The card is behind pcscd while it is disturbed."""

    def __init__(self, portal: FakePortal, folder: Path, agents: Agents, port: int) -> None:
        super().__init__(portal, folder, agents)
        self._port = port

    async def instructions(self, name: str) -> list[int]:
        """Which instructions a job has, undisturbed, in the order of their first use; those of looks for it, too."""
        job = self._job(name, "")
        watched = await self._card(job)
        await self._undisturbed(job, watched)
        return list(dict.fromkeys(map(kind, watched.card.commands)))

    @contextlib.asynccontextmanager
    async def _served(self, watched: Card, disturbance: Disturbance) -> AsyncIterator[Any]:
        server = WiredServer(watched.card, self._port)
        server.tear, server.disturb = disturbance.tear, disturbance.disturb
        await asyncio.to_thread(server.__enter__)
        try:
            yield server.path
        finally:
            await asyncio.to_thread(server.__exit__)


def plan(instructions: Mapping[str, list[int]], modes: list[str], every: int) -> list[Position]:
    """The positions, by the instructions of each job; every so many of them."""
    known: set[int] = set()
    found: list[Position] = []
    for job, has in instructions.items():
        fresh = [each for each in has if each not in known or each in BRINGS_SECRET]
        known.update(fresh)
        found += [ByInstruction(job, each, side, mode) for each in fresh for side in SIDES for mode in modes]
    return found[::every]


async def tear(
    jobs: list[str], modes: list[str], every: int, folder: Path, agents: AgentForks, port: int
) -> list[Row]:
    """Run a sample here; what each position came to."""
    async with FakePortal(ThrowAwayCA(folder)) as portal:
        tears = OverPcscd(portal, folder, agents, port)
        found = plan({job: await tears.instructions(job) for job in jobs}, modes, every)
        return [await tears.run(at) for at in found]


def named(instruction: int) -> str:
    """What an instruction is called."""
    name = f"{instruction & 0xFF:02X}"
    if instruction & USES_KEY:
        return f"{name} with a key"
    return f"{name} {_BROUGHT[instruction & 0xFF]}" if instruction & BRINGS else name
