"""Waiting for pcscd's socket: told by the kernel, woken by a call, never missed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.pcsc.service_wait import ServiceWait


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceWait]:
    waiting = ServiceWait(tmp_path / "run" / "pcscd")
    yield waiting
    waiting.close()


def test_a_wake_before_the_wait_counts(service: ServiceWait) -> None:
    service.wake()
    assert service.wait() is False


def test_a_file_before_the_wait_counts(service: ServiceWait, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert service.wait() is True


def test_each_folder_on_the_way_to_the_socket_is_followed(service: ServiceWait, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "pcscd"
    assert not service.socket_is_there
    steps = [folder.parent.mkdir, folder.mkdir, lambda: _listen(folder / "pcscd.comm")]
    for step in steps:
        later = threading.Timer(0.02, step)
        later.start()
        begun = time.monotonic()
        assert service.wait(30) is True
        assert time.monotonic() - begun < 10
        later.join()
    assert service.socket_is_there


def test_a_wait_with_an_end_ends(service: ServiceWait) -> None:
    assert service.wait(0.01) is False


def test_where_the_kernel_tells_nothing_the_wait_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.pcsc.service_wait._watch", lambda _folder: None)
    monkeypatch.setattr("agent.pcsc.service_wait.FALL_BACK_SECONDS", 0.01)
    waiting = ServiceWait(tmp_path)
    assert waiting.wait() is False
    waiting.close()


def _listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
