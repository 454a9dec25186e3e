"""The daemon as a process: commands, terminals, kills in the middle of an order, and its clean end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol import link
from protocol.messages import Finished, OrderState, Progress, Step
from tests.support.agent_parts import CODE
from tests.support.daemon_process import PIN, DaemonProcess, TerminalOrder
from tests.support.fake_order import OrderAtPortal
from tests.support.fake_portal import FakePortal


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One for all the tests that are refused: it is as before afterwards."""
    process = DaemonProcess(tmp_path_factory.mktemp("same")).start()
    yield process
    process.stop()


@pytest.fixture
def terminals() -> Iterator[list[TerminalOrder]]:
    """Closed in the end, however a test ends."""
    opened: list[TerminalOrder] = []
    yield opened
    for terminal in opened:
        terminal.close()


@pytest.fixture
async def trusting(daemon: DaemonProcess, portal: FakePortal) -> DaemonProcess:
    await daemon.trust(portal.origin, portal.tls.ca_file)
    return daemon


@pytest.fixture
def order(
    terminals: list[TerminalOrder], trusting: DaemonProcess, portal: FakePortal
) -> Callable[[], TerminalOrder]:
    """Opens the link on a terminal."""

    def open_link() -> TerminalOrder:
        terminals.append(TerminalOrder(trusting, link.build(portal.portal, CODE)))
        return terminals[-1]

    return open_link


# --- commands


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nothing", {}, "method_unknown"),
        ("cards", {"x": 1}, "params_invalid"),
        ("open", {}, "params_invalid"),
        ("open", {"link": "inlay:portal.test/" + CODE, "address": "https://evil.test"}, "params_invalid"),
        ("open", {"link": "http://portal.test/"}, "link_wrong_scheme"),
        ("open", {"link": "inlay:portal.test/" + CODE, "environment": []}, "params_invalid"),
        ("open", {"link": "inlay:portal.test/" + CODE}, "portal_unknown"),
        ("code", {"portal": "portal.test", "code": "short"}, "link_bad_code"),
        ("trust.remove", {"portal": "portal.test"}, "portal_unknown"),
        ("trust.add", {"url": "http://portal.test"}, "link_bad_portal"),
        ("trust.add", {"url": "https://portal.test", "ca_file": "/etc/shadow"}, "params_invalid"),
        ("trust.confirm", {"url": "https://portal.test"}, "params_invalid"),
        ("readers", {}, "pcsc_no_service"),
    ],
)
def test_refusals_have_a_code_and_three_parts(
    same: DaemonProcess, method: str, params: dict[str, object], code: str
) -> None:
    error = same.ask_now(method, params)["error"]
    assert error["error"] == code
    assert all(error[part] for part in ("message", "why", "next_step"))


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b"{}\n", b'{"method":"cards","extra":1}\n'])
def test_bad_lines_are_refused(same: DaemonProcess, line: bytes) -> None:
    with same.connect() as connection:
        connection.sendall(line)
        assert b'"error"' in connection.recv(4096)


def test_a_line_without_an_end_is_cut_off(same: DaemonProcess) -> None:
    with same.connect() as connection:
        try:
            connection.sendall(b"x" * 200_000)
            assert connection.recv(16) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass


def test_socket_and_folder_are_this_users_alone(same: DaemonProcess) -> None:
    folder = same.runtime / "inlay"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "agent.sock").stat().st_mode) == 0o600


def test_another_users_process_is_not_listened_to(daemon: DaemonProcess) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to be another user")
    path = daemon.runtime / "inlay/agent.sock"
    for item in (path, path.parent, daemon.runtime, *list(daemon.runtime.parents)[:3]):
        item.chmod(0o777)
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1]);"
        's.sendall(b\'{"method":"cards"}\\n\'); sys.exit(len(s.recv(100)))'
    )
    asked = subprocess.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, "-c", script, str(path)],
        check=False,
        capture_output=True,
    )
    assert asked.returncode in (0, 1), asked.stderr  # cut off, whether it noticed or not
    assert b"result" not in asked.stdout


def test_only_one_agent_runs(daemon: DaemonProcess) -> None:
    second = subprocess.run(
        [sys.executable, "-I", "-m", "agent"],
        env={"HOME": str(daemon.home), "XDG_RUNTIME_DIR": str(daemon.runtime), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 3
    assert "running already" in second.stderr
    assert daemon.ask_now("cards", {})["result"]["cards"] == []


def test_a_socket_left_by_a_crash_is_no_obstacle(daemon: DaemonProcess) -> None:
    daemon.kill()
    assert (daemon.runtime / "inlay/agent.sock").exists()
    daemon.start()
    assert daemon.ask_now("cards", {})["result"]["cards"] == []


def test_a_stop_removes_the_socket(daemon: DaemonProcess) -> None:
    assert daemon.stop() == 0
    assert not (daemon.runtime / "inlay/agent.sock").exists()


def test_its_memory_is_nobody_elses(same: DaemonProcess) -> None:
    assert Path(f"/proc/{same.pid}/environ").stat().st_uid == 0
    limits = Path(f"/proc/{same.pid}/limits").read_text()
    assert "Max core file size        0" in limits


# --- orders on a terminal


async def test_a_whole_order_on_a_terminal(
    trusting: DaemonProcess, portal: FakePortal, order: Callable[[], TerminalOrder]
) -> None:
    terminal = order()
    await terminal.begin()
    await terminal.until(portal.origin.encode())
    await terminal.type_pin()
    await terminal.until(b"Your card is ready")
    assert await terminal.end() == {"result": {"accepted": True}}
    [card] = (await trusting.ask("cards", {}))["result"]["cards"]
    assert (card["state"], card["level"], card["account"]) == ("active", "file", "alex@example.org")
    assert "not visible to other programs" in card["problem"]
    assert PIN not in trusting.everything_written()


async def test_a_refused_order_says_why_on_the_terminal(
    trusting: DaemonProcess, portal: FakePortal, order: Callable[[], TerminalOrder]
) -> None:
    portal.faults.order_token = lambda value: portal.root.sign("inlay-order+jwt", value)
    terminal = order()
    await terminal.begin()
    assert (await terminal.end())["error"]["error"] == "order_signature_invalid"


async def test_ctrl_c_is_a_cancel(
    trusting: DaemonProcess, portal: FakePortal, order: Callable[[], TerminalOrder]
) -> None:
    terminal = order()
    await terminal.begin()
    await terminal.until(b"New PIN:")
    terminal.close()
    at = await portal.orders[CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.error == "user_cancelled"


# --- killed in the middle


def _at(step: Step) -> Callable[[OrderAtPortal], bool]:
    return lambda item: Progress(step=step) in item.taken


@pytest.mark.parametrize(
    ("silent", "typed", "moment"),
    [
        ("", False, _at(Step.CONSENT)),
        ("consented", True, lambda item: item.consented is not None),
        ("", True, _at(Step.KEYS)),
        ("requests", True, lambda item: item.requests is not None),
        ("", True, _at(Step.WRITING)),
        ("", True, _at(Step.PROVING)),
    ],
    ids=["consent", "consented", "keys", "requests", "writing", "proving"],
)
async def test_killed_before_the_receipt_the_next_start_undoes(
    trusting: DaemonProcess,
    portal: FakePortal,
    order: Callable[[], TerminalOrder],
    silent: str,
    typed: bool,
    moment: Callable[[OrderAtPortal], bool],
) -> None:
    portal.faults.silent = {silent, "receipt"}
    terminal = order()
    await terminal.begin()
    if typed:
        await terminal.type_pin()
    at = await portal.claimed(CODE)
    await at.until(moment)
    trusting.kill()
    receipted = at.receipt is not None
    await trusting.start_again()
    if receipted:  # the kill came too late for this test's point: the portal decides
        await portal.undo(at)
    await at.until(lambda item: item.undone is not None)
    assert at.state is OrderState.UNDONE
    assert trusting.card_files() == []
    assert (await trusting.ask("cards", {}))["result"]["cards"] == []
    assert PIN not in trusting.everything_written()
    terminal.close()


async def test_killed_after_the_receipt_the_next_start_asks_the_portal(
    trusting: DaemonProcess, portal: FakePortal, order: Callable[[], TerminalOrder]
) -> None:
    portal.faults.silent = {"receipt"}
    terminal = order()
    await terminal.begin()
    await terminal.type_pin()
    at = await portal.claimed(CODE)
    await at.until(lambda item: item.receipt is not None)
    trusting.kill()
    terminal.close()
    [card] = trusting.card_files()
    connections = portal.connections
    await trusting.start_again()
    await portal.connected(connections + 1)
    assert trusting.card_files() == [card]
    await portal.say(at, Finished())
    await _active(trusting)


async def test_killed_after_finished_the_next_start_finishes_without_asking(
    trusting: DaemonProcess, portal: FakePortal, order: Callable[[], TerminalOrder]
) -> None:
    """The receipt's answer was lost with the process; the portal says it again."""
    portal.faults.drop_after = {"receipt"}
    terminal = order()
    await terminal.begin()
    await terminal.type_pin()
    at = await portal.claimed(CODE)
    await at.until(lambda item: item.receipt is not None)
    trusting.kill()
    terminal.close()
    await trusting.start_again()
    await _active(trusting)


async def _active(daemon: DaemonProcess) -> None:
    cards: list[dict[str, str]] = []
    async with asyncio.timeout(20):
        while not cards or cards[0]["state"] != "active":
            cards = (await daemon.ask("cards", {}))["result"]["cards"]


async def test_ended_in_the_middle_it_undoes_before_it_goes(
    trusting: DaemonProcess, portal: FakePortal, order: Callable[[], TerminalOrder]
) -> None:
    portal.faults.silent = {"requests"}
    terminal = order()
    await terminal.begin()
    await terminal.type_pin()
    at = await portal.claimed(CODE)
    await at.until(lambda item: item.requests is not None)
    trusting.signal(signal.SIGTERM)
    assert await trusting.wait() == 0
    terminal.close()
    assert trusting.card_files() == []
    await trusting.start_again()
    await at.until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.error == "order_interrupted"


def test_a_descriptor_that_is_no_terminal_is_closed(same: DaemonProcess, tmp_path: Path) -> None:
    before = 0
    for number in range(6):
        with same.connect() as connection, (tmp_path / "file").open("w") as stream:
            socket.send_fds(connection, [b'{"method":"cards"}\n'], [stream.fileno()] * 4)
            assert b"result" in connection.recv(4096)
        if number == 0:  # what the first request opened stays open
            before = len(os.listdir(f"/proc/{same.pid}/fd"))
    assert len(os.listdir(f"/proc/{same.pid}/fd")) <= before + 1


def test_an_agent_that_logs_what_is_said_to_cards_says_so_everywhere(tmp_path: Path) -> None:
    usual = DaemonProcess(tmp_path / "usual").start()
    logging = DaemonProcess(tmp_path / "logging", ("-m", "agent", "--traffic")).start()
    try:
        assert logging.ask_now("diagnose", {})["result"]["traffic"] is True
        assert "WHAT IS SAID TO CARDS IS LOGGED" in logging.log()
        assert "what is said to cards is logged" in logging.output()
        assert usual.ask_now("diagnose", {})["result"]["traffic"] is False
        assert "LOGGED" not in usual.log()
    finally:
        logging.stop()
        usual.stop()


@pytest.mark.parametrize("arguments", [["--traffic", "--traffic"], ["--traffic=on"], ["--traffic", "x"]])
def test_other_words_start_no_agent(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "-m", "agent", *arguments], capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (2, b"usage: inlay agent [--traffic]\n")
