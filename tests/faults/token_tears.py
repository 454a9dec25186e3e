"""Has a token's module die, or give no answer, at each PKCS#11 call of every job, before and after it is carried out.

In two more ways the agent is killed there, a process of its own with its journal on the disk, and started again.

``python -m tests.faults.token_tears [--jobs …] [--modes …] [--every N] [--all]``

First each job runs undisturbed on a token of SoftHSM 2, and the calls of its module are counted. Then the module is
disturbed at each of them that changes or uses something, and at the first of each that only asks; with ``--all`` at
every call. A position is lost when the order doesn't end as finished or undone, when one that was undone before it
began to change the card has changed it, when a wrong PIN or PUK was told that no person has agreed to, when a finished
one hasn't the certificates that were proved, or when a fresh order can't finish the card.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.trust import TrustStore
from protocol.messages import OrderState
from tests.cards.profiles import BARE
from tests.cards.simulated import ATR, SimulatedCard
from tests.faults.tear_jobs import KILLED, Answers
from tests.faults.tear_processes import AgentForks
from tests.faults.tears import prepare, say
from tests.faults.token_jobs import JOBS, KILLS, MODES, NEW_PUK, Job, Person, Position, Row, positions
from tests.faults.token_state import State, as_it_was, state_of, use
from tests.support import token_readers
from tests.support.agent_parts import AgentParts, folders_in
from tests.support.card_server import CardServer
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_order import AUTHENTICATION
from tests.support.fake_portal import FakePortal
from tests.support.hung_module import no_patience
from tests.support.physical_orders import order
from tests.support.simulated_readers import SimulatedReaders
from tests.support.token_orders import NEW, encode, token_agent, token_serial
from tests.support.token_readers import PIN, SO_PIN, TokenReaders


class TokenTears:
    """Runs positions, one after the other, with one portal and one agent."""

    def __init__(
        self,
        portal: FakePortal,
        agent: AgentParts,
        readers: TokenReaders,
        folder: Path,
        agents: AgentForks,
    ) -> None:
        """Use a portal, an agent of this process, and others that can be killed."""
        self._portal, self._agent, self._readers, self._folder = portal, agent, readers, folder
        self._agents = agents
        self._typed: dict[str, Answers] = {}
        self._number, self._serial = 0, ""

    async def prepare(self) -> None:
        """Make the token that each job finds: with a PIN, and a key that an order has brought."""
        token_readers.initialise()
        self._serial = await token_serial()
        encode(self._portal, self._serial, AUTHENTICATION)
        assert await self._order(Person(PIN)) == "finished"

    async def count(self, name: str) -> list[int]:
        """The functions that a job calls, undisturbed."""
        self._store()
        self._knows(unsure=False)
        self._readers.count_calls()
        JOBS[name].ordered(self._portal, self._serial)
        person = Person(PIN)
        assert await self._order(person) == "finished"
        self._typed[name] = person.typed
        return self._readers.calls

    async def run(self, at: Position) -> Row:
        """Disturb a job at a position, and judge."""
        job, store = JOBS[at.job], self._store()
        before = await state_of(store)
        self._knows(unsure=False)
        person = Person(PIN)
        self._readers.count_calls(at.call, at.mode)
        job.ordered(self._portal, self._serial)
        unsettled = await self._killed(at.job) if at.mode in KILLS else await self._order(person) and []
        self._readers.put()
        found = await self._portal.orders[self._code].told()
        after = await state_of(store)
        spent = self._readers.wrong > person.agreed
        faults = [*unsettled, *["a try was spent that nobody has agreed to"] * spent]
        if len(self._readers.calls) < at.call:
            faults.append("it never came to this call")
        end = str(found.state.value)
        if found.state is OrderState.UNDONE:
            unknown = found.undone is not None and found.undone.error == "card_pin_unknown"
            if not (found.changing or unknown) and not as_it_was(before, after, killed=at.mode in KILLS):
                faults.append("undone, and changed")
            faults += await self._finished_afresh(job, after, unsure=found.changing > 0)
            end = f"undone, {'PIN unknown' if unknown else 'half done' if found.changing else 'as it was'}"
        elif found.state is not OrderState.FINISHED:
            faults.append(f"the order is {end}")
        return Row(at, end, faults + self._incomplete(job, await state_of(store)))

    async def _finished_afresh(self, job: Job, now: State, *, unsure: bool) -> list[str]:
        """A fresh order, with what the portal knows of its PUK, by a person who has found out the PIN."""
        self._readers.count_calls()
        if now.pin == job.pin == NEW and job.puk == SO_PIN:
            return []  # the PIN is what the order was to bring
        self._knows(unsure=unsure and job.puk == NEW_PUK)
        job.ordered(self._portal, self._serial)
        ended = await self._order(Person(now.pin or PIN))
        return [] if ended == "finished" else [f"a fresh order ended by {ended}"]

    def _incomplete(self, job: Job, now: State) -> list[str]:
        """What isn't as it has to be in the end."""
        found = []
        if (now.pin, now.puk) != (job.pin, job.puk):
            found.append("PIN or PUK is another one")
        if set(now.slots) != job.slots or len(now.slots) != len(job.slots):
            found.append(f"it has certificates for {now.slots}")
        receipt = self._portal.orders[self._code].receipt
        hashes = {hashlib.sha256(der).digest() for der in now.certificates}
        if receipt is not None and not {proof.certificate_sha256 for proof in receipt.proofs} <= hashes:
            found.append("a certificate that was proved isn't on it")
        return found

    def _knows(self, *, unsure: bool) -> None:
        """What the portal knows of the PUK."""
        self._portal.puk, self._portal.new_puk, self._portal.puk_unsure = SO_PIN, NEW_PUK, unsure

    def _store(self) -> Path:
        """A token of its own for the next job."""
        self._number += 1
        store = self._folder / f"store-{self._number}"
        shutil.rmtree(self._folder / f"store-{self._number - 1}", ignore_errors=True)
        shutil.copytree(self._folder / "tokens", store)
        use(store)
        return store

    async def _killed(self, job: str) -> list[str]:
        """An order by an agent that is killed, and what another one doesn't settle of it."""
        home = self._home()
        readers, more = SimulatedReaders(), {"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]}
        readers.put(SimulatedCard(BARE))
        with CardServer(readers) as server:
            async with self._agents.running(home, server.path, more) as agent:
                ended = await agent.order(self._portal.portal, self._next_code(), self._typed[job])
            await self._portal.cut()
            async with self._agents.running(home, server.path, more) as agent:
                settled = await agent.settle()
        faults = [] if ended.end == KILLED else [f"for its agent it ended as {ended.end}"]
        return faults if settled else [*faults, "what it had begun was never settled"]

    def _home(self) -> Path:
        """A fresh agent's folders, which trust the portal and know which module the card has."""
        home = self._folder / f"agent-{self._number}"
        folders, portal = folders_in(home), self._portal
        TrustStore(folders).add(
            portal.portal, "Test portal", portal.root.public, portal.tls.ca_file.read_text()
        )
        kinds = folders.machine / "cards.d"
        kinds.mkdir()
        entry = f'name = "Token"\ndriver = "pkcs11"\nmodule = "{self._readers.module}"\natr = "{ATR.hex()}"\n'
        (kinds / "token.toml").write_text("[[card]]\n" + entry)
        return home

    def _next_code(self) -> str:
        self._number += 1
        self._code = f"{self._number:022d}"
        return self._code

    async def _order(self, person: Person) -> str:
        self._next_code()
        person.sits_at(self._agent)
        return await order(self._agent, self._portal, self._code)


@asynccontextmanager
async def _running(folder: Path, agents: AgentForks) -> AsyncIterator[TokenTears]:
    """Positions can be run, on a token of their own, with a portal of their own."""
    for part in ("shim", "store", "ca"):
        (folder / part).mkdir()
    token_readers.build(folder / "shim")
    with pytest.MonkeyPatch.context() as patch:
        readers = TokenReaders.with_a_store(folder / "store", folder / "shim", patch)
        async with (
            no_patience(readers, patch),
            FakePortal(ThrowAwayCA(folder / "ca")) as portal,
            token_agent(folder / "home", readers, portal) as agent,
        ):
            tears = TokenTears(portal, agent, readers, folder / "store", agents)
            await tears.prepare()
            yield tears


async def tear(
    jobs: list[str],
    modes: list[str],
    every: int,
    tell: Callable[[str], None],
    folder: Path,
    agents: AgentForks,
    *,
    whole: bool,
) -> list[Row]:
    """Run; what each position came to."""
    rows: list[Row] = []
    async with _running(folder, agents) as tears:
        for name in jobs:
            calls = await tears.count(name)
            found = positions(name, calls, modes, every_call=whole)[::every]
            tell(f"{name}: {len(calls)} calls, {len(found)} positions")
            for number, at in enumerate(found):
                rows.append(await tears.run(at))
                if rows[-1].faults or number % 50 == 0:
                    tell(str(rows[-1]))
    return rows


def summary(rows: list[Row]) -> str:
    """The last line."""
    return f"token tears: {len(rows)} positions, {sum(bool(row.faults) for row in rows)} lost"


def main() -> int:
    """Run; 1 when a position was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.token_tears")
    parser.add_argument("--jobs", nargs="+", choices=sorted(JOBS), default=list(JOBS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth position")
    parser.add_argument("--all", action="store_true", help="each call, those that only ask, too")
    options = parser.parse_args()
    prepare()
    with (
        tempfile.TemporaryDirectory(prefix="token-tears-") as name,
        AgentForks(Path(name)) as agents,
    ):
        every, folder = options.every, Path(name)
        rows = asyncio.run(tear(options.jobs, options.modes, every, say, folder, agents, whole=options.all))
    for end in sorted({row.end for row in rows}):
        say(f"{sum(row.end == end for row in rows):5} {end}")
    say(summary(rows))
    return any(row.faults for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
