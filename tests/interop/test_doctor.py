"""`inlay doctor` on a machine with a real pcscd, and without one: what it says, and that it changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent.desktop import cli
from agent.doctor import readers
from agent.pcsc import scard
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from tests.agent.desktop.fake_daemon import FakeDaemon
from tests.support.dummy_card import DummyCard
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until
from tests.support.virtual_cards import InReader, empty_card, store_in

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("throwaway_home")]

LASTING = ThreadPoolExecutor(1)
"""pcscd ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""


@pytest.fixture(autouse=True)
def empty_readers(pcscd: PrivatePcscd) -> None:
    wait_until(lambda: not any(reader.present for reader in scard.list_readers()), "empty readers")


@pytest.fixture
def own(tmp_path: Path) -> VirtualCard:
    made = empty_card(store_in(tmp_path))
    personalise.activate(made)
    return made


@pytest.fixture
def no_pcscd(pcscd: PrivatePcscd) -> Iterator[None]:
    LASTING.submit(pcscd.stop).result()
    yield
    LASTING.submit(pcscd.start).result()


def doctor(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """Findings by code; the exit status fits them."""
    status = cli.run(["doctor", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["healthy"] == (status == 0)
    assert said["healthy"] == all(each["level"] != "problem" for each in said["findings"])
    return {each["code"]: each for each in said["findings"]}


def test_without_a_service(no_pcscd: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = doctor(capsys)
    assert found.keys() & {"service_stopped", "service_dead"}
    assert "agent_rests" in found
    assert "vpcd_closed" in found
    assert "reader_ready" not in found


def test_readers_cards_and_drivers(
    pcscd: PrivatePcscd, own: VirtualCard, capsys: pytest.CaptureFixture[str]
) -> None:
    with InReader(own, pcscd.vpcd_ports[0]), DummyCard(pcscd.vpcd_ports[1]):
        wait_until(lambda: sum(item.present for item in scard.list_readers()) == 2, "two cards")
        found = doctor(capsys)
    assert found["service_answers"]["why"] == "It lists 8 readers."
    assert found["card_driver"]["happened"] == f"The card in {pcscd.readers[0]} is a PIV card (driver piv)."
    assert pcscd.readers[1] in found["card_unmapped"]["happened"]
    assert "/etc/inlay/cards.d" in found["card_unmapped"]["next_step"]
    assert found["vpcd_open"]["level"] == "problem"
    assert own.details().pin_tries == 3


def test_a_blocked_pin_is_found_and_no_try_is_spent(
    pcscd: PrivatePcscd, own: VirtualCard, capsys: pytest.CaptureFixture[str]
) -> None:
    own.transmit(bytes.fromhex("00A4040005A000000308"))
    for tries in (2, 1):
        assert own.transmit(bytes.fromhex("0020008008303030303030FFFF"))[-1] == 0xC0 | tries
    with InReader(own, pcscd.vpcd_ports[0]):
        wait_until(lambda: scard.list_readers()[0].present, "the card")
        assert "card_last_try" in doctor(capsys)
    assert own.details().pin_tries == 1


def test_a_card_that_hangs_does_not_hang_the_doctor(
    pcscd: PrivatePcscd,
    own: VirtualCard,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readers, "_SECONDS", 0.5)
    with InReader(own, pcscd.vpcd_ports[0]):
        wait_until(lambda: scard.list_readers()[0].present, "the card")
        with scard.Context() as context, context.connect(pcscd.readers[0]) as holder:
            holder.begin()
            assert "card_busy" in doctor(capsys)
            holder.end(reset=False)


def test_an_agent_that_answers_is_asked_and_none_is_started(
    pcscd: PrivatePcscd, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "agent_rests" in doctor(capsys)
    cards = [{"label": "Card", "problem": "All virtual readers are taken."}]
    with FakeDaemon({"result": {"version": "0.1.0", "cards": cards}}) as daemon:
        found = doctor(capsys)
    assert [request["method"] for request in daemon.requests] == ["diagnose"]
    assert found["agent_runs"]["level"] == "ok"
    assert found["virtual_card_hidden"]["why"] == "All virtual readers are taken."
    with FakeDaemon(
        {"error": {"error": "internal", "message": "No.", "why": "A fault.", "next_step": "Again."}}
    ):
        assert doctor(capsys)["agent_unwell"]["why"] == "A fault."
    with FakeDaemon({"answer": 7}):
        assert "agent_unwell" in doctor(capsys)


def test_people_are_told_area_by_area(pcscd: PrivatePcscd, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor"]) == 1
    said = capsys.readouterr().out
    heads = [line for line in said.splitlines() if not line.startswith(" ")]
    assert heads == ["Agent", "Service", "Readers", "Virtual readers", "Links", "Pages", "Portals", "Keys"]
    assert "(vpcd_open)" in said
    assert max(map(len, said.splitlines())) <= 100


async def test_the_real_command_with_the_real_agent(pcscd: PrivatePcscd, throwaway_home: Path) -> None:
    """In processes of their own, as a person runs them."""
    python = [sys.executable, "-I", "-m"]
    agent = await asyncio.create_subprocess_exec(
        *python, "agent", env=os.environ | {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    )
    try:
        path = Path(os.environ["XDG_RUNTIME_DIR"]) / "inlay" / "agent.sock"
        await asyncio.to_thread(wait_until, path.is_socket, "the agent's socket", seconds=30)
        await asyncio.to_thread(wait_until, lambda: _greets(27411), "the agent's port", seconds=30)
        argv = [*python, "agent.desktop.link_handler", "doctor", "--json"]
        ran = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=60)
    finally:
        agent.terminate()
        await agent.wait()
    found = {each["code"]: each for each in json.loads(ran.stdout)["findings"]}
    assert ran.stderr == ""
    assert {"agent_runs", "page_reaches", "service_answers", "portal_none"} <= found.keys()


def _greets(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
