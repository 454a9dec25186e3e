"""What `make tears` stands on: forks that share nothing, readers at the other end of a socket, killed agents."""

from __future__ import annotations

import socket
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.pcsc.reader_events import Look
from protocol.errors import InlayError
from tests.cards.simulated import SimulatedCard
from tests.faults.tear_jobs import CUT, JOBS, KILLED, MODES, POWER, PROFILE, TORN, Position
from tests.faults.tear_processes import AgentForks
from tests.faults.tear_run import header
from tests.faults.tear_workers import Task, Workers
from tests.faults.tears import Tears, positions
from tests.support import forks
from tests.support.card_server import CardServer
from tests.support.certificates import ThrowAwayCA
from tests.support.distant_pcsc import DistantContext, DistantMonitor
from tests.support.fake_portal import FakePortal
from tests.support.processes import Child
from tests.support.simulated_readers import SimulatedReaders

SELECT = bytes.fromhex("00A4040005A000000308") + b"\x00"
TRIES = bytes.fromhex("0020008000")


# --- forks


@contextmanager
def serving(folder: Path, run: str, before: str = "") -> Iterator[tuple[Path, Child]]:
    """A process that forks for each connection, and what its forks do."""
    program = f"""
        import os, sys, threading
        from tests.support import forks
        {before}
        def run(connection):
            {run}
        forks.serve(sys.argv[1], run)
    """
    path = folder / "forks"
    argv = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    with Child(argv, log=folder / "forks.log") as child:
        child.wait_until(lambda: forks.is_there(path), "the socket")
        yield path, child


def said(path: Path) -> bytes:
    """What a fork says, until it ends."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        with connection.makefile("rb") as stream:
            return stream.read()


def test_a_process_with_a_second_thread_forks_nothing(tmp_path: Path) -> None:
    thread = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    with serving(tmp_path, "connection.sendall(b'forked')", thread) as (path, child):
        assert said(path) == b""
        assert child.process.wait(20) == 1
    assert "SharedStateError" in (tmp_path / "forks.log").read_text()


def test_a_fork_that_is_killed_takes_nobody_with_it(tmp_path: Path) -> None:
    run = "connection.sendall(b'%d' % os.getpid()); os.kill(os.getpid(), 9)"
    with serving(tmp_path, run) as (path, child):
        first, second = said(path), said(path)
        assert first != second
        assert int(first) != child.pid
        assert child.running()


def test_forks_draw_other_random_numbers(tmp_path: Path) -> None:
    before = (
        "import random, secrets; from cryptography.hazmat.primitives.asymmetric import ec; random.random()"
    )
    run = (
        "number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value; "
        "connection.sendall(repr((random.random(), secrets.token_hex(), number)).encode())"
    )
    with serving(tmp_path, run, before) as (path, _):
        first, second = eval(said(path)), eval(said(path))  # noqa: S307 - of the program above
    assert all(mine != theirs for mine, theirs in zip(first, second, strict=True))


# --- readers at the other end of a socket


@pytest.fixture
def readers() -> SimulatedReaders:
    made = SimulatedReaders()
    made.put(SimulatedCard(PROFILE))
    return made


@pytest.fixture
def pcsc(readers: SimulatedReaders) -> Iterator[DistantContext]:
    with CardServer(readers) as server:
        yield DistantContext(server.path)


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(InlayError) as error:
        yield
    assert error.value.code == code


def test_without_a_server_there_is_no_service(tmp_path: Path) -> None:
    context = DistantContext(str(tmp_path / "nobody"))
    for ask in (lambda: context.connect("One"), lambda: context.event_count("One")):
        with refused("pcsc_no_service"):
            ask()


def test_an_empty_reader_has_no_card(pcsc: DistantContext) -> None:
    assert pcsc.event_count("Two") is None
    with refused("pcsc_card_removed"):
        pcsc.connect("Two")


def test_a_card_that_is_torn_out_is_gone_for_its_connection_and_there_for_the_next(
    pcsc: DistantContext, readers: SimulatedReaders
) -> None:
    card = readers.card_in("One")
    readers.torn = lambda reader: readers.put(card, reader)
    readers.tear = lambda number, _apdu: "before" if number == 2 else None
    connection, count = pcsc.connect("One"), pcsc.event_count("One")
    assert connection.transmit(SELECT).endswith(b"\x90\x00")
    for _ in range(2):
        with refused("pcsc_card_removed"):
            connection.transmit(TRIES)
    connection.close()
    assert pcsc.event_count("One") != count
    again = pcsc.connect("One")
    assert again.transmit(TRIES) == PROFILE.unselected.to_bytes(2, "big")
    again.close()
    assert len(readers.trace) == 3  # what finds no card is none


def test_what_is_ended_at_an_apdu_gets_no_answer(pcsc: DistantContext, readers: SimulatedReaders) -> None:
    def end(_number: int) -> None:
        raise ConnectionAbortedError

    readers.answered = end
    connection = pcsc.connect("One")
    with refused("pcsc_no_service"):
        connection.transmit(SELECT)
    connection.close()
    assert readers.card_in("One").commands == [SELECT]


def test_a_look_is_no_session(pcsc: DistantContext, readers: SimulatedReaders) -> None:
    def look() -> None:
        connection = pcsc.connect("One")
        connection.transmit(SELECT)
        connection.close()

    thread = threading.Thread(target=look, name="look")
    thread.start()
    thread.join()
    assert readers.trace == []
    look()
    assert readers.trace == [SELECT]


def test_cards_come_and_go_live(readers: SimulatedReaders) -> None:
    seen: list[Look] = []
    news = threading.Semaphore(0)

    def tell(look: Look) -> None:
        seen.append(look)
        news.release()

    with CardServer(readers) as server:
        monitor = DistantMonitor(server.path, tell)
        monitor.start()
        assert news.acquire(timeout=20)  # how it stands when the watching begins
        card = readers.take()
        readers.put(card, "Two")
        for _ in range(2):
            assert news.acquire(timeout=20)
        monitor.stop()
    assert [[row.present for row in look.readers] for look in seen] == [
        [True, False],
        [False, False],
        [False, True],
    ]


# --- positions


def test_the_line_of_a_job_says_its_apdus_and_six_positions_of_each() -> None:
    found = positions("encode", 7, [*MODES, POWER], 1)
    assert header("encode", 7, found) == "encode: 7 APDUs, 42 positions; 7 without power"
    assert header("encode", 7, positions("encode", 7, list(MODES), 1)) == "encode: 7 APDUs, 42 positions"
    assert header("encode", 7, positions("encode", 7, [POWER], 1)) == "encode: 7 APDUs; 7 without power"


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentForks]:
    with AgentForks(tmp_path_factory.mktemp("agents")) as running:
        yield running


@pytest.mark.parametrize("mode", [TORN, KILLED, CUT])
async def test_a_position_that_is_never_reached_is_lost(
    tmp_path: Path, agents: AgentForks, mode: str
) -> None:
    async with FakePortal(ThrowAwayCA(tmp_path)) as portal:
        row = await Tears(portal, tmp_path, agents).run(Position("verify PIN", 99, "before", mode))
    assert row.faults[0] == "the APDU never came"


async def test_an_agent_of_its_own_is_killed_and_the_next_one_ends_what_it_left(
    tmp_path: Path, agents: AgentForks
) -> None:
    async with FakePortal(ThrowAwayCA(tmp_path)) as portal:
        tears = Tears(portal, tmp_path, agents)
        last = await tears.count("verify PIN")
        row = await tears.run(Position("verify PIN", last, "after", KILLED))
    assert (row.end, row.faults) == ("undone, card as it was", [])


def test_workers_share_what_there_is_and_one_that_fails_ends_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Workers(2, tmp_path, "simulated") as workers:
        told: list[int] = []
        tasks = [Task("count", (job,)) for job in ("verify PIN", "unblock", "change PUK")]
        counted = workers.all(tasks, lambda at, _found: told.append(at))
        assert counted == [5, 5, 6]
        assert sorted(told) == [0, 1, 2]
        with pytest.raises(RuntimeError):
            workers.all([Task("count", ("no such job",))] * 3)
    assert "KeyError: 'no such job'" in capfd.readouterr().err


def test_every_job_has_a_way_on() -> None:
    named = {name for job in JOBS.values() for name in job.afterwards if name is not None}
    assert named <= JOBS.keys()
