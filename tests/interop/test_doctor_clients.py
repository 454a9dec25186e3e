"""Which programs have a connection to pcscd open: over real pcscd."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.doctor import pcsc_clients
from agent.pcsc import scard
from tests.support.pcscd import PrivatePcscd

pytestmark = pytest.mark.interop

SOCKET = Path("/run/pcscd/pcscd.comm")
HOLDS = "from agent.pcsc import scard; held = scard.Context(); print('open', flush=True); input()"


def test_a_socket_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert pcsc_clients.clients_of(tmp_path / "none") == []


def test_where_the_kernel_can_not_be_asked_none_is_told(
    pcscd: PrivatePcscd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: object) -> socket.socket:
        raise PermissionError

    monkeypatch.setattr("agent.doctor.pcsc_clients.socket.socket", refused)
    assert pcsc_clients.clients_of(SOCKET) == []


def test_a_program_is_told_as_long_as_it_has_a_context_and_this_one_is_not(pcscd: PrivatePcscd) -> None:
    with (
        scard.Context(),
        subprocess.Popen(
            [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        comm = Path(f"/proc/{other.pid}/comm").read_text().strip()
        assert pcsc_clients.clients_of(SOCKET) == [f"{comm} (process {other.pid})"]
        other.communicate("\n", timeout=20)
        assert pcsc_clients.clients_of(SOCKET) == []
