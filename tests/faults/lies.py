"""Has a card answer falsely to each APDU of every job, once.

``python -m tests.faults.lies [--jobs …] [--lies …] [--every N]``

Each job runs as in `tests.faults.tears`. At one APDU the card answers one of `LIES` in place of the truth, and the
truth again from the next command on. Where it isn't a refusal the card has carried the command out all the same. A
position is lost for what it is lost for there, and also when an order ends by a fault of Inlay's own; when it ends by
an answer that couldn't be used, and doesn't say to which command; when software sends a PIN or PUK again after such an
answer that nobody has typed again and that the card hasn't taken before; or when it goes on for more commands than an
answer has pieces.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from agent.handlers.encode_in_reader import HalfDone
from agent.order_ports import Submission
from agent.pcsc.apdu import MAX_ROUNDS
from agent.ports import UserCancelled, UserEnvironment
from protocol.errors import InlayError
from protocol.messages import ErrorData, Transport
from tests.cards.simulated import SimulatedCard
from tests.faults.tear_disturbance import Disturbance
from tests.faults.tear_jobs import JOBS, Answers, Job, Position, Row
from tests.faults.tear_judgement import Card
from tests.faults.tear_processes import Ended
from tests.faults.tears import Tears, disturbed_readers, prepare, say, tell_ends
from tests.support.agent_parts import AgentParts, HasReaders, running_agent
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.simulated_readers import SimulatedReaders

REFUSAL: Final = "a wrong status"
ENDLESS: Final = "61xx without end"
LIES: Final = {
    "no status": b"",
    "no data": bytes.fromhex("9000"),
    "malformed TLV": bytes.fromhex("7C83FFFFFF9000"),
    "64 KiB": bytes(65_536) + bytes.fromhex("9000"),
    ENDLESS: bytes(16) + bytes.fromhex("6110"),
    REFUSAL: bytes.fromhex("6F00"),
}
"""By name what the card answers: data, and the status."""
_SECONDS: Final = 60.0
_GIVEN_UP: Final = [UserCancelled("consent")] * 2
"""What the person does when more is asked than a job knows."""
_MORE: Final = 3
"""So many times the commands of an undisturbed job a disturbed one may have, beside one answer without end."""
_DONE: Final = bytes.fromhex("9000")
_GET_RESPONSE: Final = 0xC0
_SAY_NO_COMMAND: Final = frozenset(
    {
        "card_algorithm_missing",
        "card_check_failed",
        "card_other",
        "card_management_wrong",
        "card_not_supported",
        "card_pin_blocked",
        "card_pin_unknown",
        "card_pin_wrong",
        "card_puk_blocked",
        "card_puk_other",
        "card_puk_unknown",
        "card_puk_wrong",
        "user_cancelled",
    }
)
"""Causes of which each has one command, so that they needn't name it; and the person who is asked again, and goes.

``card_algorithm_missing`` names the algorithm, which the card had said it knew; ``card_check_failed`` the slot whose
certificate was read back; ``card_other`` is said of the card's CHUID.
"""


class LieAt(Position):
    """``mode`` is one of `LIES` here."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self.job} APDU {self.apdu}: {self.mode}"


class Liar(SimulatedCard):
    """A card that answers falsely when it is told to.

    Attributes:
        lie: of `LIES`, the answer to the command that comes next; None: the truth.
    """

    lie: str | None = None
    _endless = False

    def twin(self) -> Liar:
        """See `SimulatedCard.twin`."""
        found = super().twin()
        assert isinstance(found, Liar)
        return found

    def transmit(self, raw: bytes) -> bytes:
        """Answer one APDU."""
        name, self.lie = self.lie, None
        self._endless = name == ENDLESS or (self._endless and raw[1] == _GET_RESPONSE)
        if self._endless:
            name = ENDLESS
        if name is None:
            return super().transmit(raw)
        if name == REFUSAL:
            self.commands.append(raw)
        else:
            super().transmit(raw)
        return LIES[name]


class _AgentHere:
    """An agent in this process; see `tests.faults.tear_processes.RunningAgent`.

    Attributes:
        windows: what its person sees, and types; past the answers the person goes.
    """

    def __init__(self, parts: AgentParts) -> None:
        self._parts = parts
        self.windows = parts.windows

    async def order(self, portal: str, code: str, answers: Answers) -> Ended:
        """See `RunningAgent.order`."""
        self.windows.answers = [*answers, *_GIVEN_UP]
        submission = Submission(portal, code, Transport.LINK, UserEnvironment({"DISPLAY": ":9"}))
        end = "finished"
        try:
            async with asyncio.timeout(_SECONDS):
                await self._parts.desk.submit(submission).wait()
        except InlayError as error:
            end = error.code
        asked = self.windows.opened[-1].asked if self.windows.opened else []
        return Ended(end, tuple(prompt.warning or "" for prompt in asked))

    async def settle(self) -> bool:
        """See `RunningAgent.settle`. A lie ends orders, never an agent: nothing is left for another one."""
        raise AssertionError

    def kill(self) -> None:
        """See `RunningAgent.kill`. A lie kills no agent."""
        raise AssertionError


class _AgentsHere:
    """Agents in this process; see `tests.faults.tears.Agents`."""

    @contextlib.asynccontextmanager
    async def running(self, home: Path, card: HasReaders) -> AsyncIterator[_AgentHere]:
        """An agent on these folders, with these readers."""
        async with running_agent(home, card) as parts:
            yield _AgentHere(parts)


class Lies(Tears):
    """Runs positions, one after the other, with one portal. No agent is killed: they are in this process."""

    kind = Liar

    def __init__(self, portal: FakePortal, folder: Path) -> None:
        super().__init__(portal, folder, _AgentsHere())
        self._apdus: dict[str, int] = {}
        self._half_done = False

    async def count(self, name: str, card: str = "") -> int:
        """How many APDUs a job has, undisturbed."""
        self._apdus[name] = await super().count(name, card)
        return self._apdus[name]

    async def run(self, at: Position) -> Row:
        """Have the card answer falsely at a position, and judge."""
        self._half_done = False
        return await super().run(at)

    @contextlib.asynccontextmanager
    async def _served(self, watched: Card, disturbance: Disturbance) -> AsyncIterator[SimulatedReaders]:
        yield disturbed_readers(watched, disturbance)

    async def _disturbed(self, job: Job, at: Position, watched: Card, home: Path) -> list[str]:
        faults: list[str] = []
        readers, card = SimulatedReaders(), watched.card
        assert isinstance(card, Liar)
        readers.put(card)
        typed_before = 0

        async with self._agent(home, readers) as agent:

            def lie(number: int, _apdu: bytes) -> None:
                nonlocal typed_before
                watched.look()
                if number == at.apdu:
                    card.lie, typed_before = at.mode, _typed(agent)

            readers.tear = lie
            await self._order(agent, job)
            await self._at().told()
            *before, told = readers.trace[: at.apdu]
            if _brings_secret(told) and not was_right(told, before) and not LIES[at.mode].endswith(_DONE):
                again = sum(map(_brings_secret, readers.trace[at.apdu :]))
                if again > _typed(agent) - typed_before:
                    faults.append(f"a PIN or PUK was sent {again} times after one that wasn't taken")
            self._half_done = isinstance(agent.windows.opened[-1].error, HalfDone)
        if len(readers.trace) > _MORE * self._apdus[at.job] + MAX_ROUNDS:
            faults.append(f"it went on for {len(readers.trace)} commands")
        undone: ErrorData | None = self._at().undone
        if undone is not None:
            faults += _unnamed(undone)
        return faults

    def _changing(self, job: Job) -> bool:
        """The person may have been told, too."""
        return super()._changing(job) or (job.blocks and self._half_done)


def _typed(agent: Any) -> int:
    """How often a person has typed something."""
    return sum(len(window.given) for window in agent.windows.opened)


def _brings_secret(apdu: bytes) -> bool:
    """VERIFY with a PIN, CHANGE REFERENCE DATA, RESET RETRY COUNTER."""
    return apdu[1] in (0x24, 0x2C) or (apdu[1] == 0x20 and len(apdu) > 5)


def was_right(verify: bytes, before: list[bytes]) -> bool:
    """Whether the card has taken the PIN of a VERIFY in this order already: one that is right costs no try again."""
    pin = verify[5:]
    return verify[1] == 0x20 and any(_brings_secret(each) and each[5:].endswith(pin) for each in before)


def _unnamed(undone: ErrorData) -> list[str]:
    """What a cause lacks from which it follows what the card has done."""
    if "command" in undone.fields or undone.error in _SAY_NO_COMMAND:
        return []
    return [f"the cause {undone.error} {undone.fields} doesn't say which command it was"]


async def lie(
    jobs: list[str], lies: list[str], every: int, tell: Callable[[str], None], folder: Path, *, first: int = 0
) -> list[Row]:
    """Run ``every`` so many positions from the ``first`` on; what each came to."""
    rows: list[Row] = []
    async with FakePortal(ThrowAwayCA(folder)) as portal:
        runs = Lies(portal, folder)
        plan: list[Position] = []
        for job in jobs:
            apdus = await runs.count(job)
            tell(f"{job}: {apdus} APDUs, {apdus * len(lies)} positions")
            plan += [LieAt(job, apdu, "after", each) for apdu in range(1, apdus + 1) for each in lies]
        for number, at in enumerate(plan[first::every]):
            row = await runs.run(at)
            rows.append(row)
            if row.faults or number % 100 == 0:
                tell(str(row))
    return rows


def main() -> int:
    """Run; 1 when a position was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.lies")
    parser.add_argument("--jobs", nargs="+", choices=sorted(JOBS), default=list(JOBS))
    parser.add_argument("--lies", nargs="+", choices=LIES, default=list(LIES))
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth position")
    options = parser.parse_args()
    prepare()
    logging.getLogger("agent").setLevel(logging.ERROR)  # an order that was undone is what is looked for
    with tempfile.TemporaryDirectory(prefix="lies-") as folder:
        rows = asyncio.run(lie(options.jobs, options.lies, options.every, say, Path(folder)))
    return tell_ends(rows, "lies")


if __name__ == "__main__":
    raise SystemExit(main())
