"""`inlay agent --stop`: busy first, then at once, then idle; the next agent waits for the end of the one before."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import link
from tests.support.agent_parts import CODE
from tests.support.daemon_process import DaemonProcess, TerminalOrder
from tests.support.fake_portal import FakePortal


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path).start()
    yield process
    process.stop()


def inlay(daemon: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this daemon's user."""
    environment = {
        "HOME": str(daemon.home),
        "XDG_RUNTIME_DIR": str(daemon.runtime),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
    }
    return subprocess.run(
        [sys.executable, "-I", "-m", "agent.desktop.link_handler", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("arguments", [["--stop", "--nonsense"], ["--now"], ["--stop", "now"]])
def test_a_wrong_command_line_stops_nothing(daemon: DaemonProcess, arguments: list[str]) -> None:
    assert inlay(daemon, "agent", *arguments).returncode == 2
    assert "result" in daemon.ask_now("cards", {})


@pytest.mark.parametrize("params", [{"now": 1}, {"now": None}, {"x": True}])
def test_other_parameters_are_refused(daemon: DaemonProcess, params: dict[str, object]) -> None:
    assert daemon.ask_now("stop", params)["error"]["error"] == "params_invalid"


async def test_an_order_under_way_is_named_and_undone_only_if_that_is_wanted(
    daemon: DaemonProcess, portal: FakePortal
) -> None:
    await daemon.trust(portal.origin, portal.tls.ca_file)
    order = TerminalOrder(daemon, link.build(portal.portal, CODE))
    await order.begin()
    await order.until(b"New PIN:")
    refused = await asyncio.to_thread(inlay, daemon, "agent", "--stop", "--json")
    assert refused.returncode == 1
    said = json.loads(refused.stdout)
    assert said["error"] == "agent_busy"
    assert f"“Create a virtual smart card” of {portal.portal}" in said["why"]
    stopped = await asyncio.to_thread(inlay, daemon, "agent", "--stop", "--now")
    assert stopped.returncode == 0, stopped.stderr
    assert "That was broken off." in stopped.stdout
    assert await daemon.wait() == 0
    order.close()
    await daemon.start_again()
    at = await portal.orders[CODE].until(lambda item: item.undone is not None)
    assert at.undone is not None
    assert at.undone.error == "order_interrupted"
    assert daemon.card_files() == []


async def test_an_idle_agent_ends_and_all_of_it_is_over_when_the_command_says_so(
    daemon: DaemonProcess,
) -> None:
    stopped = await asyncio.to_thread(inlay, daemon, "agent", "--stop")
    assert stopped.returncode == 0, stopped.stderr
    assert "has stopped" in stopped.stdout
    assert await daemon.wait() == 0
    again = await asyncio.to_thread(inlay, daemon, "agent", "--stop", "--json")
    assert json.loads(again.stdout) == {"stopped": False, "under_way": []}
    assert again.returncode == 0


async def test_a_second_agent_never_runs_beside_the_first(daemon: DaemonProcess) -> None:
    """As a log-in and a click at once would have it."""
    second = await asyncio.to_thread(inlay, daemon, "agent")
    assert second.returncode == 3
    assert "running already" in second.stderr
    assert "result" in await daemon.ask("cards", {})


async def test_an_agent_that_is_started_while_another_ends_waits_for_its_end(
    daemon: DaemonProcess, tmp_path: Path
) -> None:
    """What the one that ends still holds is not touched before."""
    lock = daemon.runtime / "inlay/agent.lock"
    assert await asyncio.to_thread(daemon.stop) == 0
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        starting = asyncio.create_task(daemon.start_again())
        await asyncio.sleep(0.5)
        assert not starting.done()
        assert not (daemon.runtime / "inlay/agent.sock").exists()
    await starting
    assert "result" in await daemon.ask("cards", {})
