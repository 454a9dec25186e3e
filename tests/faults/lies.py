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
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agent.handlers.encode_in_reader import HalfDone
from agent.pcsc.apdu import MAX_ROUNDS
from agent.ports import UserCancelled
from protocol.messages import ErrorData
from tests.cards.simulated import SimulatedCard
from tests.faults.tear_jobs import JOBS, Job, Position, Row
from tests.faults.tear_judgement import Card
from tests.faults.tears import Tears, prepare, say, tell_ends
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


class Lies(Tears):
    """Runs positions, one after the other, with one portal."""

    kind = Liar

    def __init__(self, portal: FakePortal, folder: Path) -> None:
        super().__init__(portal, folder)
        self._given_up = [UserCancelled("consent")] * 2
        self._apdus: dict[str, int] = {}
        self._faults: list[str] = []
        self._half_done = False

    async def count(self, name: str) -> int:
        """How many APDUs a job has, undisturbed."""
        self._apdus[name] = await super().count(name)
        return self._apdus[name]

    async def run(self, at: Position) -> Row:
        """Have the card answer falsely at a position, and judge."""
        self._faults, self._half_done = [], False
        row = await super().run(at)
        return row._replace(faults=[*self._faults, *row.faults])

    async def _disturbed(self, job: Job, at: Position, watched: Card) -> Path:
        readers, card = SimulatedReaders(), watched.card
        assert isinstance(card, Liar)
        readers.put(card)
        typed_before = 0

        async with self._agent(readers) as (agent, home):

            def lie(number: int, _apdu: bytes) -> None:
                nonlocal typed_before
                watched.look()
                if number == at.apdu:
                    card.lie, typed_before = at.mode, _typed(agent)

            readers.tear = lie
            await self._order(agent, job)
            *before, told = readers.trace[: at.apdu]
            if _brings_secret(told) and not was_right(told, before) and not LIES[at.mode].endswith(_DONE):
                again = sum(map(_brings_secret, readers.trace[at.apdu :]))
                if again > _typed(agent) - typed_before:
                    self._faults.append(f"a PIN or PUK was sent {again} times after one that wasn't taken")
            self._half_done = isinstance(agent.windows.opened[-1].error, HalfDone)
        if len(readers.trace) > _MORE * self._apdus[at.job] + MAX_ROUNDS:
            self._faults.append(f"it went on for {len(readers.trace)} commands")
        undone: ErrorData | None = self._at().undone
        if undone is not None:
            self._faults += _unnamed(undone)
        return home

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
