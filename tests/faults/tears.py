"""Tears a physical card out, kills the agent, and cuts its channel, before and after every APDU of every job.

``python -m tests.faults.tears [--jobs …] [--modes …] [--over …] [--profiles …] [--every N] [--workers N]``

First each job runs undisturbed, and its APDUs are counted. Then each of them is disturbed on both sides: before the
card has it, and after the card has carried it out. The card is torn out and put back; the agent is killed and started
again; the channel to the portal is cut. In each of these ways the agent is a process of its own with its journal on
the disk (`tests.faults.tear_agent`). A fourth way has no sides: the card's power is cut and given back before an APDU,
and nobody says so. The main jobs run on cards of some other profiles, too.

A position is lost when the order doesn't end as finished or undone, when a try of PIN or PUK was spent that no person
has agreed to, when an order that was undone before it began to change the card has changed it, when a certificate
counts as valid that isn't on the card with its key, when a key of whoever had the card before is left on it that was to
go, when a fresh order can't finish a card that is half done, or when the APDU never came. A card that is reset has no
try before, and all of them in the end. *Block card* spends tries on purpose: none may be gone when it was undone
without saying so, and all must be in the end.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Protocol

from agent import keys_system
from agent.trust import TrustStore
from protocol.messages import Binding, ErrorData, OrderState, UnblockPin
from tests.cards.profiles import Profile
from tests.cards.simulated import FACTORY_KEY, SimulatedCard, rsa_key
from tests.faults.tear_disturbance import Disturbance
from tests.faults.tear_jobs import (
    JOBS,
    KILLED,
    NEW_KEY,
    POWER,
    SIDES,
    Answers,
    Job,
    Position,
    Row,
    on_card,
    profile_named,
)
from tests.faults.tear_judgement import (
    Card,
    Spent,
    asked_for,
    incomplete,
    left_behind,
    lost,
    touched,
    without_card,
)
from tests.faults.tear_processes import AgentForks, Ended, RunningAgent
from tests.support.agent_parts import folders_in
from tests.support.card_server import CardServer
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.issued_ledger import Issued, Standing
from tests.support.simulated_readers import SimulatedReaders

_RSA_KEYS: Final = 3
_GROWTH: Final = 200
"""What a job sends to a card depends on the lengths of certificates: they are the same in every run."""

_UNDONE: Final = {
    "before": "undone, card as it was",
    "changing": "undone, card half done, finished by a fresh order",
    "unknown": "undone, PIN unknown and said so, set by a fresh order",
}


class Agents(Protocol):
    """Where agents come from."""

    def running(self, home: Path, card: Any) -> contextlib.AbstractAsyncContextManager[RunningAgent]:
        """An agent on these folders, with the card where `Tears._served` has put it."""


class Tears:
    """Runs positions, one after the other, with one portal.

    Attributes:
        kind: the cards.
    """

    kind = SimulatedCard

    def __init__(
        self,
        portal: FakePortal,
        folder: Path,
        agents: Agents,
        profile: Profile | None = None,
    ) -> None:
        """Use a portal.

        Args:
            portal: it.
            folder: for the folders of agents; those of lost positions stay.
            agents: starts them.
            profile: of all cards; None: as the position says, or its job.
        """
        self._portal, self._folder, self._agents, self._profile = portal, folder, agents, profile
        self._number = 0
        self._spent = Spent()
        self._encoded: dict[Profile, tuple[SimulatedCard, list[Issued]]] = {}
        portal.ca.growth = _GROWTH
        portal.binding = Binding.NONE
        portal.management_keys = [FACTORY_KEY, NEW_KEY]

    async def count(self, name: str, card: str = "") -> int:
        """How many APDUs a job has, undisturbed."""
        job = self._job(name, card)
        undisturbed, _ = await self._undisturbed(job, await self._card(job))
        return undisturbed.last

    async def run(self, at: Position) -> Row:
        """Disturb a job at a position, and judge."""
        job = self._job(at.job, at.card)
        self._portal.puk_unsure = False
        watched = await self._card(job)
        self._spent = Spent()
        home = self._home()
        faults = await self._disturbed(job, at, watched, home)
        if self._code not in self._portal.orders:
            return Row(at, "never begun", [*faults, "its code was never claimed"])
        end, changing = self._ended(), self._changing(job)
        faults += [] if end in ("finished", "undone") else [f"the order is {end}"]
        if end == "undone":
            unknown = self._said("card_pin_unknown")
            if not changing and not unknown:
                faults += touched(job, watched)
            faults += without_card(watched.card, self._portal.ca.ledger)
            faults += await self._finished_afresh(job, watched, home, changing=changing)
            end = _UNDONE["changing" if changing else "unknown" if unknown else "before"]
        watched.look()
        faults += lost(job, watched, self._spent) + incomplete(watched.card, self._portal)
        faults += without_card(watched.card, self._portal.ca.ledger) + left_behind(job, watched)
        if not faults:
            shutil.rmtree(home)
        return Row(at, end, faults)

    def _job(self, name: str, card: str) -> Job:
        job = JOBS[name]
        return on_card(job, self._profile or (profile_named(card) if card else job.profile))

    async def _finished_afresh(self, job: Job, watched: Card, home: Path, *, changing: bool) -> list[str]:
        """A fresh order for a card whose order was undone, with what the portal knows of its PUK."""
        self._portal.puk_unsure = job.gives_puk and self._at().changing > 0
        name = job.afterwards[changing]
        fresh = job if name is None else on_card(JOBS[name], job.profile)
        return await self._fresh(fresh, watched, home)

    async def _card(self, job: Job) -> Card:
        """A card as the job finds it, and the CA with what that card has."""
        ca = self._portal.ca
        ca.issued.clear()
        if not job.encoded:
            ca.ledger.entries = []
            return Card(self._blank(job.profile))
        if job.profile not in self._encoded:
            ca.ledger.entries = []
            first = on_card(JOBS["encode"], job.profile)
            card = self._blank(job.profile)
            _, ended = await self._undisturbed(first, Card(card))
            assert ended.end == "finished", ended
            self._encoded[job.profile] = card, ca.ledger.entries
            ca.issued.clear()
        card, issued = self._encoded[job.profile]
        ca.ledger.entries = [copy.copy(entry) for entry in issued]
        twin = card.twin()
        if job.blocked:
            twin.pin_left = twin.puk_left = 0
        if job.prepare is not None:
            job.prepare(twin)
        if job.clears:  # it was withdrawn from whoever had it
            for entry in ca.ledger.entries:
                entry.standing = Standing.REVOKED
        return Card(twin)

    def _blank(self, profile: Profile) -> SimulatedCard:
        """A card that nobody has encoded, without a CHUID; its RSA keys are different ones."""
        card = self.kind(profile)
        card.objects.pop(0x5FC102, None)
        card.rsa_keys = itertools.cycle(map(rsa_key, range(_RSA_KEYS)))
        return card

    async def _undisturbed(self, job: Job, watched: Card) -> tuple[Disturbance, Ended]:
        nothing, home = Disturbance(watched, self._portal), self._home()
        async with self._served(watched, nothing) as place, self._agent(home, place) as agent:
            ended = await self._order(agent, job)
        assert ended.end == "finished", ended
        return nothing, ended

    async def _disturbed(self, job: Job, at: Position, watched: Card, home: Path) -> list[str]:
        """Disturb, and what is wrong beside what has become of card and order."""
        disturbance = Disturbance(watched, self._portal, at)
        async with self._served(watched, disturbance) as place:
            async with self._agent(home, place) as agent:
                disturbance.agent = agent
                ended = await self._order(agent, job)
            if at.mode == KILLED:
                async with self._agent(home, place) as agent:
                    settled = await agent.settle()
                if not settled:
                    return ["what it had begun was never settled"]
        # who was asked which PIN or PUK it is, and was wrong, has spent a try, and knew it
        if at.side == "before":
            self._spent = asked_for(ended)
        if not disturbance.done:
            return ["the APDU never came"]
        silent = (ended.end == KILLED) != (at.mode == KILLED) or "not settled" in ended.end
        return [f"for its agent it ended as {ended.end}"] if silent else []

    @contextlib.asynccontextmanager
    async def _served(self, watched: Card, disturbance: Disturbance) -> AsyncIterator[Any]:
        """The card is in a reader, which is somewhere: there."""
        with CardServer(disturbed_readers(watched, disturbance)) as server:
            yield server.path

    async def _fresh(self, job: Job, watched: Card, home: Path) -> list[str]:
        watched.card.reset()
        pin = watched.card.pin.rstrip(b"\xff")
        by_puk = isinstance(job.operation, UnblockPin)
        typed: Answers = [(known if by_puk else known and pin, fresh) for known, fresh in job.answers]
        has_the_old = watched.card.puk == job.puks[0]
        undisturbed = Disturbance(watched, self._portal)
        async with self._served(watched, undisturbed) as place, self._agent(home, place) as agent:
            ended = await self._order(agent, job._replace(answers=typed))
        if has_the_old:
            self._spent.puk += asked_for(ended).puk
        return [] if ended.end == "finished" else [f"a fresh order couldn't finish the card: {ended.end}"]

    @contextlib.asynccontextmanager
    async def _agent(self, home: Path, place: Any) -> AsyncIterator[Any]:
        async with self._agents.running(home, place) as agent:
            yield agent
        await self._portal.cut()  # an agent that was killed never says its good-bye

    def _home(self) -> Path:
        """A fresh agent's folders, which trust the portal."""
        self._number += 1
        home = self._folder / f"home-{self._number}"
        trust = TrustStore(folders_in(home))
        portal = self._portal
        trust.add(portal.portal, "Test portal", portal.root.public, portal.tls.ca_file.read_text())
        return home

    async def _order(self, agent: RunningAgent, job: Job) -> Ended:
        return await agent.order(self._portal.portal, self._next_code(job), job.answers)

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


def disturbed_readers(watched: Card, disturbance: Disturbance) -> SimulatedReaders:
    """Readers with the card in one of them; it comes back whenever it was torn out."""
    readers = SimulatedReaders()
    readers.put(watched.card)
    readers.torn = lambda reader: readers.put(watched.card, reader)

    def comes(number: int, _apdu: bytes) -> str | None:
        if disturbance.disturb(number, "before"):
            raise ConnectionAbortedError
        return disturbance.tear(number)

    def answered(number: int) -> None:
        if disturbance.disturb(number, "after"):
            raise ConnectionAbortedError

    readers.tear, readers.answered = comes, answered
    return readers


def positions(job: str, apdus: int, modes: list[str], every: int, card: str = "") -> list[Position]:
    """All positions of a job, or every so many of them, spread over sides and modes.

    Without power after one APDU is without power before the next.
    """
    found = [
        Position(job, apdu, side, mode, card)
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
    folder: Path,
    agents: AgentForks,
    profile: Profile | None = None,
) -> list[Row]:
    """Run a sample here, with cards of this profile, or of each job's; what each position came to."""
    async with FakePortal(ThrowAwayCA(folder)) as portal:
        tears = Tears(portal, folder, agents, profile)
        plan = [at for job in jobs for at in positions(job, await tears.count(job), modes, every)]
        return [await tears.run(at) for at in plan]


def summary(rows: list[Row], what: str = "tears") -> str:
    """The last line."""
    return f"{what}: {len(rows)} positions, {sum(bool(row.faults) for row in rows)} lost"


def prepare() -> None:
    """What the whole process needs that runs orders without a desktop."""

    def missing() -> object:
        raise keys_system.KeystoreMissing

    keys_system._trusted_backend = missing  # type: ignore[assignment]


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
    from tests.faults.tear_run import main

    raise SystemExit(main())
