"""Tears a physical card out, kills the agent, and cuts its channel, before and after every APDU of every job.

``python -m tests.faults.tears [--jobs …] [--modes …] [--over …] [--every N]``

First each job runs undisturbed, and its APDUs are counted. Then each of them is disturbed on both sides: before the
card has it, and after the card has carried it out. The card is torn out and put back; the agent, a process of its own
with its journal on the disk, is killed and started again; the channel to the portal is cut. A position is lost when the
order doesn't end as finished or undone, when a try of PIN or PUK was spent that no person has agreed to, when an order
that was undone before it began to change the card has changed it, when a certificate counts as valid that isn't on
the card with its key, or when a fresh order can't finish a card that is half done. A card that is reset has no try
before, and all of them in the end. *Block card* spends tries on purpose: none may be gone when it was undone without
saying so, and all must be in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import itertools
import json
import logging
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from agent import keys_system
from agent.ports import UserCancelled
from agent.trust import TrustStore
from protocol.errors import InlayError
from protocol.messages import (
    Binding,
    ErrorData,
    OrderState,
    UnblockPin,
)
from tests.cards.profiles import Profile
from tests.cards.simulated import FACTORY_KEY, SimulatedCard, rsa_key
from tests.faults.tear_jobs import (
    JOBS,
    MODES,
    NEW_KEY,
    POWER,
    PROFILE,
    SIDES,
    TORN,
    Answers,
    Job,
    Position,
    Row,
)
from tests.faults.tear_judgement import Card, Spent, asked_for, incomplete, lost, touched, without_card
from tests.support import isolation
from tests.support.agent_parts import HasReaders, folders_in, running_agent
from tests.support.card_server import CardServer
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.issued_ledger import Issued
from tests.support.simulated_readers import SimulatedReaders
from tests.support.wired_server import WiredServer

_SECONDS: Final = 60.0
_RSA_KEYS: Final = 3
OVER: Final = ("simulated", "pcscd")

_UNDONE: Final = {
    "before": "undone, card as it was",
    "changing": "undone, card half done, finished by a fresh order",
    "unknown": "undone, PIN unknown and said so, set by a fresh order",
}


class Tears:
    """Runs positions, one after the other, with one portal.

    Attributes:
        kind: the cards.
    """

    kind = SimulatedCard

    def __init__(self, portal: FakePortal, folder: Path, profile: Profile | None = None) -> None:
        self._portal, self._folder, self._profile = portal, folder, profile
        self._number = 0
        self._spent = Spent()
        self._given_up: list[UserCancelled] = []  # what the person does when more is asked than a job knows
        self._encoded: tuple[SimulatedCard, list[Issued]] | None = None
        portal.binding = Binding.NONE
        portal.management_keys = [FACTORY_KEY, NEW_KEY]

    async def count(self, name: str) -> int:
        """How many APDUs a job has, undisturbed."""
        job, readers = JOBS[name], SimulatedReaders()
        watched = await self._card(job)
        readers.put(watched.card)
        async with self._agent(readers) as (agent, _):
            assert await self._order(agent, job) == "finished"
        return len(readers.trace)

    async def run(self, at: Position) -> Row:
        """Disturb a job at a position, and judge."""
        job = JOBS[at.job]
        self._portal.puk_unsure = False
        watched = await self._card(job)
        self._spent = Spent()
        if at.mode == "killed":
            home = await self._killed(job, at, watched)
        else:
            home = await self._disturbed(job, at, watched)
        end, changing = self._ended(), self._changing(job)
        faults = [] if end in ("finished", "undone") else [f"the order is {end}"]
        if end == "undone":
            unknown = self._said("card_pin_unknown")
            if not changing and not unknown:
                faults += touched(job, watched)
            faults += without_card(watched.card, self._portal.ca.ledger)
            faults += await self._finished_afresh(job, watched, home, changing=changing)
            end = _UNDONE["changing" if changing else "unknown" if unknown else "before"]
        watched.look()
        faults += lost(job, watched, self._spent) + incomplete(watched.card, self._portal)
        faults += without_card(watched.card, self._portal.ca.ledger)
        return Row(at, end, faults)

    async def _finished_afresh(self, job: Job, watched: Card, home: Path, *, changing: bool) -> list[str]:
        """A fresh order for a card whose order was undone, with what the portal knows of its PUK."""
        self._portal.puk_unsure = job.gives_puk and self._at().changing > 0
        name = job.afterwards[changing]
        finished = await self._fresh(job if name is None else JOBS[name], watched, home)
        return [] if finished else ["a fresh order couldn't finish the card"]

    async def _card(self, job: Job) -> Card:
        """A card as the job finds it, and the CA with what that card has."""
        ca = self._portal.ca
        ca.issued.clear()
        if not job.encoded:
            ca.ledger.entries = []
            return Card(self._blank(job))
        if self._encoded is None:
            ca.ledger.entries = []
            readers, card = SimulatedReaders(), self._blank(job)
            readers.put(card)
            async with self._agent(readers) as (agent, _):
                assert await self._order(agent, JOBS["encode"]) == "finished"
            self._encoded = card, ca.ledger.entries
            ca.issued.clear()
        card, issued = self._encoded
        ca.ledger.entries = [copy.copy(entry) for entry in issued]
        twin = card.twin()
        if job.blocked:
            twin.pin_left = twin.puk_left = 0
        return Card(twin)

    def _blank(self, job: Job) -> SimulatedCard:
        """A card that nobody has encoded, without a CHUID; its RSA keys are different ones."""
        card = self.kind(self._profile or job.profile)
        card.objects.pop(0x5FC102, None)
        card.rsa_keys = itertools.cycle(map(rsa_key, range(_RSA_KEYS)))
        return card

    async def _disturbed(self, job: Job, at: Position, watched: Card) -> Path:
        readers = SimulatedReaders()
        readers.put(watched.card)
        readers.torn = lambda reader: readers.put(watched.card, reader)
        disturbance = self._disturbance(at, watched)
        readers.tear = lambda number, _apdu: disturbance(number)
        return await self._ordered(readers, job, at)

    def _disturbance(self, at: Position, watched: Card) -> Callable[[int], str | None]:
        """Called with an APDU's number: cuts the channel there, or says on which side the card is torn out."""
        loop = asyncio.get_running_loop()

        def disturb(number: int) -> str | None:
            watched.look()
            if number != at.apdu:
                return None
            if at.mode == TORN:
                return at.side
            if at.mode == POWER:
                return "power"
            if at.side == "before":
                asyncio.run_coroutine_threadsafe(self._portal.cut(), loop).result(_SECONDS)
            else:  # the card answers, and by then the channel is gone
                loop.call_soon_threadsafe(lambda: loop.create_task(self._portal.cut()))
            return None

        return disturb

    async def _ordered(self, readers: HasReaders, job: Job, at: Position) -> Path:
        async with self._agent(readers) as (agent, home):
            await self._order(agent, job)
        # who was asked which PIN or PUK it is, and was wrong, has spent a try, and knew it
        if at.side == "before":
            self._spent = asked_for(agent)
        return home

    async def _killed(self, job: Job, at: Position, watched: Card) -> Path:
        home = self._home()
        with self._served(watched) as server:
            await self._process(home, server, job, at, watched)
            await self._process(home, server, None, at, watched)
        return home

    def _served(self, watched: Card) -> CardServer | WiredServer:
        return CardServer(watched.card, self._folder / f"card-{self._number}")

    async def _process(
        self, home: Path, server: CardServer | WiredServer, job: Job | None, at: Position, watched: Card
    ) -> None:
        """The agent as a process; with a job it is killed at the position, without one it sees to what is left."""
        code = self._next_code(job) if job else ""
        typed = [] if job is None else job.answers
        answers = [[None if text is None else text.decode() for text in pair] for pair in typed]
        argv = [str(home), server.path, self._portal.portal, code, json.dumps(answers)]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.tear_agent", *argv, stderr=asyncio.subprocess.DEVNULL
        )

        def disturb(number: int, side: str) -> bool:
            watched.look()
            here = job is not None and (number, side) == (at.apdu, at.side)
            if here:
                os.kill(child.pid, signal.SIGKILL)
            return here

        server.disturb = disturb
        async with asyncio.timeout(_SECONDS):
            await child.wait()
        await self._portal.cut()

    async def _fresh(self, job: Job, watched: Card, home: Path) -> bool:
        readers = SimulatedReaders()
        watched.card.reset()
        readers.put(watched.card)

        def look(_number: int, _apdu: bytes) -> None:
            watched.look()

        readers.tear = look
        pin = watched.card.pin.rstrip(b"\xff")
        by_puk = isinstance(job.operation, UnblockPin)
        typed: Answers = [(known if by_puk else known and pin, fresh) for known, fresh in job.answers]
        has_the_old = watched.card.puk == job.puks[0]
        async with self._agent(readers, home) as (agent, _):
            ended = await self._order(agent, job._replace(answers=typed))
        if has_the_old:
            self._spent.puk += asked_for(agent).puk
        return ended == "finished"

    @contextlib.asynccontextmanager
    async def _agent(self, readers: HasReaders, home: Path | None = None) -> AsyncIterator[tuple[Any, Path]]:
        home = home or self._home()
        async with running_agent(home, readers) as agent:
            yield agent, home

    def _home(self) -> Path:
        """A fresh agent's folders, which trust the portal."""
        self._number += 1
        home = self._folder / f"home-{self._number}"
        trust = TrustStore(folders_in(home))
        portal = self._portal
        trust.add(portal.portal, "Test portal", portal.root.public, portal.tls.ca_file.read_text())
        return home

    async def _order(self, agent: Any, job: Job) -> str:
        agent.windows.answers = [*job.answers, *self._given_up]
        code = self._next_code(job)
        try:
            async with asyncio.timeout(_SECONDS):
                await agent.submit(self._portal, code).wait()
        except InlayError as error:
            return error.code
        return "finished"

    def _next_code(self, job: Job) -> str:
        self._number += 1
        self._portal.operation = job.operation
        self._portal.new_key = NEW_KEY
        self._portal.puk, self._portal.new_puk = job.puks
        self._code = f"{self._number:022d}"
        return self._code

    def _at(self) -> Any:
        return self._portal.orders[self._code]

    def _said(self, code: str) -> bool:
        """Whether that is what the agent has undone the order for."""
        undone: ErrorData | None = self._at().undone
        return undone is not None and undone.error == code

    def _changing(self, job: Job) -> bool:
        """Whether the agent has said that the card is being changed; a card that is blocked is Locked before."""
        return self._said("card_half_done") if job.blocks else self._at().changing > 0

    def _ended(self) -> str:
        state: OrderState = self._at().state
        return state.value


def positions(job: str, apdus: int, modes: list[str], every: int) -> list[Position]:
    """All positions of a job, or every so many of them, spread over sides and modes.

    Without power after one APDU is without power before the next.
    """
    found = [
        Position(job, apdu, side, mode)
        for apdu in range(1, apdus + 1)
        for side in SIDES
        for mode in modes
        if mode != POWER or side == SIDES[0]
    ]
    return found[::every]


async def tear(
    jobs: list[str],
    modes: list[str],
    every: int,
    tell: Callable[[str], None],
    folder: Path,
    profile: Profile | None = None,
) -> list[Row]:
    """Run, with cards of this profile, or of each job's; what each position came to."""
    rows: list[Row] = []
    async with FakePortal(ThrowAwayCA(folder)) as portal:
        tears = Tears(portal, folder, profile)
        plan: list[Position] = []
        for job in jobs:
            apdus = await tears.count(job)
            found = positions(job, apdus, modes, every)
            tell(f"{job}: {apdus} APDUs, {len(found)} positions")
            plan += found
        for number, at in enumerate(plan):
            row = await tears.run(at)
            rows.append(row)
            if row.faults or number % 50 == 0:
                tell(str(row))
    return rows


def summary(rows: list[Row], what: str = "tears") -> str:
    """The last line."""
    return f"{what}: {len(rows)} positions, {sum(bool(row.faults) for row in rows)} lost"


def main() -> int:
    """Run; 1 when a position was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.tears")
    parser.add_argument("--jobs", nargs="+", choices=sorted(JOBS), default=list(JOBS))
    parser.add_argument("--modes", nargs="+", choices=[*MODES, POWER], default=[*MODES, POWER])
    parser.add_argument(
        "--over",
        nargs="+",
        choices=OVER,
        default=list(OVER),
        help="at each APDU of simulated readers; once for each instruction over a real pcscd with vpcd",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth position")
    options = parser.parse_args()
    if "pcscd" in options.over:
        isolation.enter()  # before there is a thread
    prepare()
    with tempfile.TemporaryDirectory(prefix="tears-") as folder:
        rows: list[Row] = []
        if "simulated" in options.over:
            rows += asyncio.run(tear(options.jobs, options.modes, options.every, say, Path(folder)))
        if "pcscd" in options.over:
            from tests.faults.tears_over_pcscd import run

            below = Path(folder) / "pcscd"
            below.mkdir()
            rows += run(
                [each for each in options.jobs if JOBS[each].profile is PROFILE],
                [mode for mode in options.modes if mode != POWER],
                options.every,
                say,
                below,
            )
    return tell_ends(rows, "tears")


def prepare() -> None:
    """What the whole process needs that runs orders without a desktop."""

    def missing() -> object:
        raise keys_system.KeystoreMissing

    keys_system._trusted_backend = missing  # type: ignore[assignment]
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # a connection that was cut is no news


def tell_ends(rows: list[Row], what: str) -> int:
    """Say how often each end was, and how many positions were lost; 1 when there is one."""
    for end, count in sorted(Counter(row.end for row in rows).items()):
        say(f"{count:5} {end}")
    say(summary(rows, what))
    return any(row.faults for row in rows)


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
