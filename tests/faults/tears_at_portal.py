"""`tests.faults.tears` at the real portal: jobs that are its own, and no fake one's.

These are the cards of a batch (`tests.faults.portal_batches`) and a card that proves itself, and is reset
(`tests.faults.portal_extend`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tests.faults.portal_batches import JOBS as BATCH_JOBS
from tests.faults.portal_batches import BatchDesk
from tests.faults.portal_extend import ResetDesk
from tests.faults.tear_jobs import MODES, SIDES, Position, Row
from tests.faults.tear_processes import AgentForks
from tests.support.attack_stage import Stage, running_stage
from tests.support.certificates import ThrowAwayCA

RESET: Final = "reset of a card that proves itself"
JOBS: Final = {**{name: job.modes for name, job in BATCH_JOBS.items()}, RESET: MODES}
"""Job to how it is disturbed."""


class AtPortal:
    """Runs positions, one after the other, each desk with a portal of its own."""

    def __init__(self, folder: Path, agents: AgentForks, tls: ThrowAwayCA) -> None:
        """``folder`` is for portals and agents; ``tls`` vouches for the portals."""
        self._folder, self._agents, self._tls = folder, agents, tls
        self._batches: BatchDesk | None = None
        self._reset: ResetDesk | None = None
        self._stack = contextlib.AsyncExitStack()

    async def close(self) -> None:
        """Stop the portals."""
        await self._stack.aclose()

    async def count(self, job: str) -> range:
        """Where a job can be disturbed, undisturbed: numbers of APDUs."""
        if job == RESET:
            return await (await self._reset_desk()).positions()
        return await (await self._batch_desk()).positions(job)

    async def run(self, at: Position) -> Row:
        """Disturb a job at a position, and judge."""
        desk = await self._reset_desk() if at.job == RESET else await self._batch_desk()
        return Row(at, *await desk.run(at))

    async def _batch_desk(self) -> BatchDesk:
        if self._batches is None:
            self._batches = BatchDesk(*await self._stage("batches"))
            await self._batches.open()
        return self._batches

    async def _reset_desk(self) -> ResetDesk:
        if self._reset is None:
            self._reset = ResetDesk(*await self._stage("reset"))
            await self._reset.open()
        return self._reset

    async def _stage(self, name: str) -> tuple[Stage, Path, AgentForks]:
        folder = self._folder / name
        folder.mkdir()
        stage = await self._stack.enter_async_context(running_stage(folder, self._tls))
        return stage, folder, self._agents


def positions(job: str, apdus: range, modes: list[str], every: int) -> list[Position]:
    """All positions of a job, or every so many of them, spread over sides and modes."""
    found = [
        Position(job, apdu, side, mode)
        for apdu in apdus
        for side in SIDES
        for mode in JOBS[job]
        if mode in modes
    ]
    return found[::every]


@contextlib.asynccontextmanager
async def at_portal(folder: Path, agents: AgentForks, tls: ThrowAwayCA) -> AsyncIterator[AtPortal]:
    """Run positions while the ``async with`` block runs."""
    runs = AtPortal(folder, agents, tls)
    try:
        yield runs
    finally:
        await runs.close()


async def tear(
    jobs: list[str], modes: list[str], every: int, folder: Path, agents: AgentForks, tls: ThrowAwayCA
) -> list[Row]:
    """Run a sample here; what each position came to."""
    async with at_portal(folder, agents, tls) as runs:
        plan = [at for job in jobs for at in positions(job, await runs.count(job), modes, every)]
        return [await runs.run(at) for at in plan]
