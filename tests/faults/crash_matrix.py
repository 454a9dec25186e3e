"""Every step of every issuing process by everything that may happen there, by HoldUntilProof, by database.

``python -m tests.faults.crash_matrix [--match TEXT] [--database …] [--process …] [--hold …]``: prints a line for each
cell, and at the end how many there were and how many certificates were good at the CA that no card proves, by the
CA's own list, once ``inlay-portal reconcile`` had run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import copy
import itertools
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.error import HTTPError

from aiohttp import ClientSession, TCPConnector

from bench.page import PortalPages
from protocol import jose, link
from tests.faults.crash_plan import CA_FAULTS, ISSUE, RELEASE, Fault, Plan, Point
from tests.faults.crash_site import CrashSite
from tests.faults.crash_visit import FINISHED, GONE, UNDONE, Visit, proved_by
from tests.support.postgresql import PrivatePostgresql
from tests.support.processes import NotReadyError, wait_until
from tests.support.software_agent import SoftwareAgent, SoftwareCard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ORDERS_OF_A_SESSION: Final = 20
PROCESSES: Final = {
    "get": "VirtualSmartCardSelfServiceProcGet",
    "renew": "VirtualSmartCardProcRenew",
    "replace": "VirtualSmartCardProcReplace",
}
NOT_REACHED: Final = "not reached"


class Cell(NamedTuple):
    """What happens where.

    Attributes:
        at: the step.
        fault: what happens there.
        leaves: the agent never comes back afterwards.
    """

    at: Point
    fault: Fault
    leaves: bool = False

    def __str__(self) -> str:
        return f"{self.fault}{', agent leaves' if self.leaves else ''}: {self.at}"


class Row(NamedTuple):
    """What came of a cell.

    Attributes:
        end: ``finished``, ``undone``, ``gone``, or ``not reached``.
        orphans: certificates good at the CA that no card proves.
        faults: what else is wrong.
    """

    where: str
    cell: Cell
    end: str
    orphans: int
    faults: list[str]

    def __str__(self) -> str:
        wrong = f"  {self.orphans} ORPHANS" * bool(self.orphans) + "".join(
            f"  {fault}" for fault in self.faults
        )
        return f"{self.where:30} {self.end:12} {self.cell}{wrong}"


class Matrix:
    """The cells of one process at one portal.

    Args:
        site: the portal.
        process: one of ``PROCESSES``.
        where: database, option and process, for the rows.
    """

    def __init__(self, site: CrashSite, process: str, where: str) -> None:
        self._site = site
        self._process = process
        self._where = where
        self._device = jose.SigningKey.generate()
        self._pages = PortalPages(site)
        self._orders = 0
        self._card = SoftwareCard()
        self._proved: set[bytes] = set()
        self._loop = asyncio.Runner()
        self._client: ClientSession | None = None

    def steps(self) -> list[Point]:
        """The steps of an order that nothing disturbs; an order before it makes the device known, and a card."""
        self._order("get", None, number="417")
        end, _ = self._order(self._process, None)
        if end != FINISHED:
            raise RuntimeError("an order that nothing disturbs isn't finished")
        return self._trace

    def run(self, cell: Cell) -> Row:
        """One cell; once more when its step wasn't reached, as on a machine that is too busy for the CA's time."""
        row = self._once(cell)
        if row.end == NOT_REACHED and not row.orphans and not row.faults:
            row = self._once(cell)
        return row

    def _once(self, cell: Cell) -> Row:
        end, faults = self._order(self._process, cell)
        good = self._site.good()
        orphans, lost = good - self._proved, self._proved - good
        faults += [f"{len(lost)} proved certificates aren't good"] * bool(lost)
        self._proved &= good
        fired = self._site.portal.plans.fired
        return Row(self._where, cell, end if fired else NOT_REACHED, len(orphans), faults)

    def _order(self, process: str, cell: Cell | None, number: str | None = None) -> tuple[str, list[str]]:
        if self._orders % _ORDERS_OF_A_SESSION == 0:
            self._pages = PortalPages(self._site)
            self._pages.log_in(self._site.user)
        self._orders += 1
        about = None if process == "get" else self._site.card_id(self._card.guid)
        code = link.parse(self._pages.open_inlay(PROCESSES[process], card=about)).code
        plan = Plan(self._orders) if cell is None else Plan(self._orders, cell.at, cell.fault)
        self._site.portal.plans.arm(plan)
        card = copy.deepcopy(self._card) if process == "renew" else SoftwareCard()
        leaves = cell is not None and cell.leaves
        end = self._loop.run(self._visit(card, code, leaves=leaves, number=number))
        faults = self._settle(cell)
        self._take(process, card, end)
        self._leave()
        return end, faults

    def _take(self, process: str, card: SoftwareCard, end: str) -> None:
        """What is on cards now. One that left has either card, the old one or the new: as the portal has ended it."""
        made = proved_by(card) - proved_by(self._card)
        if end == GONE:
            end = FINISHED if made & self._site.good() else UNDONE
        if end != FINISHED:
            return
        if process != "get":
            self._proved -= proved_by(self._card)
        self._proved |= proved_by(card)
        self._card = card

    async def _visit(self, card: SoftwareCard, code: str, *, leaves: bool, number: str | None) -> str:
        portal = self._site.portal
        if self._client is None:
            self._client = ClientSession(connector=TCPConnector(ssl=self._site.ca.client_context()))
        agent = SoftwareAgent(self._client, portal.origin, portal.root, portal.portal_id, portal.origin)
        agent.device, agent.card = self._device, card
        try:
            if number is not None:
                return await self._first(agent, code, number)
            return await Visit(agent, code, portal.again, leaves=leaves).run()
        finally:
            await agent.close()

    def close(self) -> None:
        """Close all connections."""
        with self._loop:
            self._loop.run(self._close())

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.close()
        await asyncio.sleep(
            0.1
        )  # TLS connections end a few turns of the loop later (aiohttp's documentation)

    async def _first(self, agent: SoftwareAgent, code: str, number: str) -> str:
        """The device's first order: its number is typed into the page."""
        await agent.connect()
        await agent.claim(code)
        await agent.consent(number=number)
        for _ in range(100):
            with contextlib.suppress(HTTPError):
                await asyncio.to_thread(self._pages.number, number)
                break
            await asyncio.sleep(0.05)
        await agent.complete()
        return FINISHED

    def _settle(self, cell: Cell | None) -> list[str]:
        """Wait for a late answer, start the portal again, and run the reconciler."""
        portal = self._site.portal
        if cell is not None and cell.fault == "late" and portal.plans.fired:
            wait_until(lambda: portal.plans.late, "the CA's late answer", seconds=20)
        trace = portal.plans.trace()
        portal.again()
        portal.plans.disarm()
        # what the portal has just taken up again by itself isn't the reconciler's to judge
        with contextlib.suppress(NotReadyError):
            wait_until(lambda: not self._site.count("order_inbox", "handled_at IS NULL"), "quiet", seconds=3)
        status = portal.reconcile()
        wait_until(lambda: not self._site.count("revocation_queue"), "an empty queue", seconds=20)
        if cell is None:
            self._trace = trace
        return [f"reconcile: exit status {status}"] * (status != 0)

    def _leave(self) -> None:
        """The person leaves the process's page, whatever state it is in: the next order begins anew."""
        for leave in (self._pages.finish, self._pages.cancel):
            try:
                leave()
            except HTTPError as refused:  # it has ended
                refused.close()


def cells(steps: Sequence[Point]) -> Iterator[Cell]:
    """All cells of a trace."""
    for at in steps:
        if at.name in (ISSUE, RELEASE):
            for fault in CA_FAULTS:
                # a CA never refuses to release what it has put on hold itself
                if (at.name, fault) != (RELEASE, "refuse"):
                    yield Cell(at, fault)
            continue
        for leaves in (False, True):
            yield Cell(at, "kill", leaves)
        yield Cell(at, "cut")


def summary(rows: Iterable[Row]) -> str:
    """The last line."""
    found = list(rows)
    return f"crash matrix: {len(found)} cells, {sum(row.orphans for row in found)} orphans"


@contextlib.contextmanager
def opened(
    database: str, process: str = "get", *, hold: bool, server: PrivatePostgresql | None = None
) -> Iterator[Matrix]:
    """A portal on a fresh database: of the server, else in a file."""
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        url = server.fresh_database() if server is not None else None
        with CrashSite(Path(folder), url, hold=hold) as site:
            matrix = Matrix(site, process, f"{database}, hold {'on' if hold else 'off'}, {process}")
            with contextlib.closing(matrix):
                yield matrix


def main() -> int:
    """Run; 1 when there is an orphan, or something else is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crash_matrix")
    parser.add_argument("--match", default="", help="cells whose description has this text")
    databases = ["sqlite", "postgresql"]
    parser.add_argument("--database", nargs="+", choices=databases, default=databases)
    parser.add_argument("--process", nargs="+", choices=list(PROCESSES), default=list(PROCESSES))
    parser.add_argument("--hold", nargs="+", choices=["off", "on"], default=["off", "on"])
    options = parser.parse_args()
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(PrivatePostgresql()) if "postgresql" in options.database else None
        for database, hold, process in itertools.product(options.database, options.hold, options.process):
            chosen = server if database == "postgresql" else None
            with opened(database, process, hold=hold == "on", server=chosen) as matrix:
                for cell in cells(matrix.steps()):
                    if options.match in str(cell):
                        rows.append(matrix.run(cell))
                        say(str(rows[-1]))
    reached = [row for row in rows if row.end != NOT_REACHED]
    ends = Counter((row.where, row.cell.fault, row.end) for row in reached)
    for (where, fault, end), count in sorted(ends.items()):
        say(f"{where:30} {fault:8} {end:10} {count:5}")
    say(f"not reached: {len(rows) - len(reached)}; otherwise wrong: {sum(bool(row.faults) for row in rows)}")
    say(summary(reached))
    return int(any(row.orphans or row.faults for row in rows))


def say(line: str) -> None:
    """Print, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
