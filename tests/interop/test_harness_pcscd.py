"""The private pcscd is private, has the shipped readers, and every slot takes a card."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.dummy_card import ATR, DummyCard
from tests.support.pcscd import listening_ports
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop


@pytest.fixture
def own_pcscd(pcscd: PrivatePcscd) -> Iterator[PrivatePcscd]:
    """The session's pcscd, running again afterwards whatever the test does to it."""
    yield pcscd
    pcscd.restart()


def test_network_has_loopback_only() -> None:
    """Nothing in the test run is reachable from outside, whatever address it listens on."""
    names = [name for _, name in socket.if_nameindex()]
    assert names == ["lo"]


def test_machine_state_is_hidden() -> None:
    """A D-Bus or pcscd of the machine can't be met by accident."""
    assert not Path("/run/dbus").exists()
    assert [path.name for path in Path("/etc/reader.conf.d").iterdir()] in ([], ["inlay"])


def test_all_slots_take_a_card(pcscd: PrivatePcscd) -> None:
    """Eight readers, each with its own port: a card shows up in the reader that belongs to it."""
    assert len(pcscd.vpcd_ports) == len(set(pcscd.vpcd_ports)) == 8
    for port, reader in zip(pcscd.vpcd_ports, pcscd.readers, strict=True):
        with DummyCard(port):
            wait_until(lambda: _readers_with_card(pcscd) == [reader], f"a card in {reader} alone")  # noqa: B023
            wait_until(lambda: _atr(pcscd, reader) == ATR, f"the ATR of the card in {reader}")  # noqa: B023
    wait_until(lambda: _readers_with_card(pcscd) == [], "all readers empty again")


def test_restart_brings_slots_back(own_pcscd: PrivatePcscd) -> None:
    """After a restart the ports listen again under another process."""
    before = own_pcscd.pid
    own_pcscd.restart()
    assert own_pcscd.pid != before
    assert set(own_pcscd.vpcd_ports) <= listening_ports()


def test_crash_is_survivable(own_pcscd: PrivatePcscd) -> None:
    """A killed pcscd leaves files behind that don't keep the next one from starting."""
    own_pcscd.kill()
    assert not set(own_pcscd.vpcd_ports) & listening_ports()
    own_pcscd.start()
    assert "Inlay Virtual Reader A 00 00" in own_pcscd.run(["opensc-tool", "-l"]).stdout


def test_run_reports_exit_code(pcscd: PrivatePcscd) -> None:
    """``run`` hands back what a client says, and ends one that hangs."""
    assert pcscd.run(["sh", "-c", "exit 3"]).returncode == 3
    with pytest.raises(subprocess.TimeoutExpired):
        pcscd.run(["sleep", "5"], seconds=0.1)


def _atr(pcscd: PrivatePcscd, reader: str) -> bytes:
    """What OpenSC says of the card in a reader; nothing while pcscd still powers it up."""
    told = pcscd.run(["opensc-tool", "--reader", reader, "--atr"]).stdout.strip().replace(":", "")
    try:
        return bytes.fromhex(told)
    except ValueError:
        return b""


def _readers_with_card(pcscd: PrivatePcscd) -> list[str]:
    rows = pcscd.run(["opensc-tool", "-l"]).stdout.splitlines()[2:]
    return [name for name in pcscd.readers for row in rows if name in row and row.split()[1] == "Yes"]
