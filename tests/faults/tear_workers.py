"""Processes that run positions side by side, each with a portal, folders, agents, and a pcscd of its own.

Each is in namespaces of its own, so that no two meet at a port or at pcscd's socket. What a position comes to doesn't
depend on who runs it, or when: every position begins with a card, an agent and an order that nobody has had before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from tests.faults.tear_processes import AgentForks
from tests.faults.tears import Tears, prepare
from tests.faults.tears_at_portal import AtPortal, at_portal
from tests.faults.tears_over_pcscd import OverPcscd
from tests.support import isolation
from tests.support.certificates import ThrowAwayCA
from tests.support.fake_portal import FakePortal
from tests.support.pcscd import PrivatePcscd

Over = Literal["simulated", "pcscd", "portal"]
"""Simulated readers or a real pcscd, and a portal of the tests' own; or simulated readers and the real portal."""


class Task(NamedTuple):
    """Something to do: a method of `Tears`, `OverPcscd` or `AtPortal`, and what it is called with."""

    method: str
    arguments: tuple[Any, ...]


class Workers:
    """So many processes, while the ``with`` block runs."""

    def __init__(self, number: int, folder: Path, over: Over) -> None:
        """Prepare.

        Args:
            number: how many.
            folder: for the folders of agents; those of lost positions stay.
            over: where the cards are, and which portal there is.
        """
        self._context = multiprocessing.get_context("spawn")
        self._folders = [folder / f"worker-{each}" for each in range(number)]
        self._over = over
        self._processes: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []

    def __enter__(self) -> Self:
        for folder in self._folders:
            folder.mkdir(parents=True)
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_work, args=(theirs, folder, self._over), daemon=True)
            process.start()
            theirs.close()
            self._processes.append((process, ours))
        return self

    def __exit__(self, *_exc: object) -> None:
        for process, connection in self._processes:
            connection.close()
            process.join()

    def all(
        self, tasks: Sequence[Task], done: Callable[[int, Any], None] = lambda _at, _what: None
    ) -> list[Any]:
        """Do everything, each as soon as somebody is free; what each came to, in the order of the tasks.

        Args:
            tasks: what there is to do.
            done: told of each, by its place among the tasks, as soon as it is done.

        Raises:
            RuntimeError: a worker has failed, and said why.
        """
        found: list[Any] = [None] * len(tasks)
        left, lock, failed = iter(enumerate(tasks)), threading.Lock(), list[BaseException]()

        def drive(connection: Connection) -> None:
            try:
                for number, task in _each(left, lock, failed):
                    connection.send(task)
                    found[number] = connection.recv()
                    with lock:
                        done(number, found[number])
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=drive, args=(each,)) for _, each in self._processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise RuntimeError("a worker has failed") from failed[0]
        return found


def _each(
    left: Iterator[tuple[int, Task]], lock: threading.Lock, failed: list[BaseException]
) -> Iterator[tuple[int, Task]]:
    """The next of what is left for all, for one of them; none once somebody has failed."""
    while not failed:
        with lock:
            taken = next(left, None)
        if taken is None:
            return
        yield taken


def _work(connection: Connection, folder: Path, over: Over) -> None:
    """Be a worker, until nobody has anything more to do."""
    isolation.enter()  # before there is a thread
    prepare()
    logging.disable(logging.CRITICAL)  # connections that were cut, seen by the portal's side, are no news
    with contextlib.ExitStack() as stack:
        agents = stack.enter_context(AgentForks(folder))
        pcscd = stack.enter_context(PrivatePcscd(folder)) if over == "pcscd" else None
        asyncio.run(_serve(connection, folder, agents, over, pcscd))


async def _serve(
    connection: Connection, folder: Path, agents: AgentForks, over: Over, pcscd: PrivatePcscd | None
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        tears: Tears | AtPortal
        if over == "portal":
            tears = await stack.enter_async_context(at_portal(folder, agents, ThrowAwayCA(folder)))
        else:
            portal = await stack.enter_async_context(FakePortal(ThrowAwayCA(folder)))
            tears = (
                Tears(portal, folder, agents)
                if pcscd is None
                else OverPcscd(portal, folder, agents, pcscd.vpcd_port)
            )
        with contextlib.suppress(EOFError):
            while True:
                task: Task = await asyncio.to_thread(connection.recv)
                connection.send(await getattr(tears, task.method)(*task.arguments))
