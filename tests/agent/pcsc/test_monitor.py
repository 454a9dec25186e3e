"""The monitor against a PC/SC that does what no service here can be made to do: readers pulled, codes, madness."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from smartcard import scard as real

from agent.pcsc import monitor, scard, service_wait
from agent.pcsc.monitor import Monitor
from agent.pcsc.reader_events import Look

WAIT = 10.0


class FakePcsc:
    """PC/SC with what a test sets; everything else is pyscard's own."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.readers: dict[str, int] = {}
        self.establish = real.SCARD_S_SUCCESS
        self.answer = real.SCARD_S_SUCCESS
        self.spin = False
        self.unreadable = False
        self.calls = 0
        self.open = 0
        self.cancelled = False

    def __getattr__(self, name: str) -> Any:
        return getattr(real, name)

    def set(self, work: Callable[[], object] = bool, **values: object) -> None:
        with self.changed:
            work()
            vars(self).update(values)
            self.changed.notify_all()

    def SCardEstablishContext(self, _scope: int) -> tuple[int, object]:
        self.calls += 1
        self.open += self.establish == real.SCARD_S_SUCCESS
        return self.establish, object()

    def SCardReleaseContext(self, _handle: object) -> int:
        self.open -= 1
        return 0

    def SCardCancel(self, _handle: object) -> int:
        self.set(cancelled=True)
        return 0

    def SCardListReaders(self, _handle: object, _groups: object) -> tuple[int, list[str]]:
        if self.unreadable:
            raise SystemError("returned a result with an exception set")
        names = list(self.readers)
        return (real.SCARD_S_SUCCESS if names else real.SCARD_E_NO_READERS_AVAILABLE), names

    def SCardGetStatusChange(
        self, _handle: object, milliseconds: int, query: list[tuple[str, int]]
    ) -> tuple[int, list[tuple[str, int, list[int]]]]:
        """As pcsc-lite: it counts the readers when the wait begins. Names go out as pyscard sends them."""
        for name, _ in query:
            name.encode("ascii")
        self.calls += 1
        deadline = time.monotonic() + min(milliseconds / 1000, WAIT)
        with self.changed:
            begun = len(self.readers)
            while True:
                if self.cancelled or self.answer != real.SCARD_S_SUCCESS:
                    return (real.SCARD_E_CANCELLED if self.cancelled else self.answer), []
                states: list[tuple[str, int, list[int]]] = [
                    (name, self.readers.get(name, real.SCARD_STATE_UNKNOWN), []) for name, _ in query
                ]
                moved = any(
                    state & ~2 != known and name != query[0][0]
                    for (name, known), (_, state, _) in zip(query, states, strict=True)
                )
                if moved or len(self.readers) != begun or self.spin:
                    return 0, states
                if not self.changed.wait(deadline - time.monotonic()):
                    return real.SCARD_E_TIMEOUT, states


@pytest.fixture
def pcsc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePcsc:
    fake = FakePcsc()
    monkeypatch.setattr(monitor, "scard", fake)
    monkeypatch.setattr(scard, "scard", fake)
    monkeypatch.setattr(service_wait, "SOCKET_FOLDER", tmp_path)
    monkeypatch.setattr(monitor, "ServiceWait", lambda: service_wait.ServiceWait(tmp_path))
    monkeypatch.setattr(monitor, "_AGAIN_MILLISECONDS", 50)
    return fake


@pytest.fixture
def looks(pcsc: FakePcsc) -> Iterator[queue.Queue[Look]]:
    told: queue.Queue[Look] = queue.Queue()
    running = Monitor(told.put)
    running.start()
    yield told
    running.stop()
    assert pcsc.open == 0


def names(look: Look) -> list[str]:
    return [reader.name for reader in look.readers]


def test_no_reader_at_first_then_one_then_none(pcsc: FakePcsc, looks: queue.Queue[Look]) -> None:
    assert looks.get(timeout=WAIT) == Look()
    pcsc.set(lambda: pcsc.readers.update(A=0x10))
    assert names(looks.get(timeout=WAIT)) == ["A"]
    pcsc.set(pcsc.readers.clear)
    assert looks.get(timeout=WAIT) == Look()


def test_a_reader_that_comes_between_listing_and_waiting_is_found(
    pcsc: FakePcsc, looks: queue.Queue[Look], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count that the wait begins with holds the new reader already: only the second listing finds it."""
    assert looks.get(timeout=WAIT) == Look()
    wait = FakePcsc.SCardGetStatusChange
    once = iter([True])

    def late(self: FakePcsc, *arguments: Any) -> Any:
        if next(once, False):
            self.readers["A"] = 0x10
        return wait(self, *arguments)

    monkeypatch.setattr(FakePcsc, "SCardGetStatusChange", late)
    pcsc.set(lambda: pcsc.readers.update(B=0x10))
    found: set[str] = set()
    while found != {"A", "B"}:
        found |= set(names(looks.get(timeout=WAIT)))


@pytest.mark.parametrize("code", [0x80100013, 0x8010001D, 0x8010001E, 0x80100003, 0x80100001])
def test_any_error_opens_a_new_context(pcsc: FakePcsc, looks: queue.Queue[Look], code: int) -> None:
    assert looks.get(timeout=WAIT) == Look()
    pcsc.set(answer=code)
    assert looks.get(timeout=WAIT) == Look("pcsc_no_service")
    pcsc.set(answer=real.SCARD_S_SUCCESS)
    assert looks.get(timeout=WAIT) == Look()


def test_an_unknown_reader_is_a_reason_to_list_them_again(pcsc: FakePcsc, looks: queue.Queue[Look]) -> None:
    assert looks.get(timeout=WAIT) == Look()
    pcsc.set(answer=real.SCARD_E_UNKNOWN_READER)
    pcsc.set(lambda: pcsc.readers.update(A=0x10), answer=real.SCARD_S_SUCCESS)
    assert names(looks.get(timeout=WAIT)) == ["A"]


def test_a_service_that_is_not_there_is_not_asked_again_and_again(
    pcsc: FakePcsc, looks: queue.Queue[Look], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(monitor, "_FIRST_PAUSE", 0.001)
    assert looks.get(timeout=WAIT) == Look()
    pcsc.establish = real.SCARD_E_NO_SERVICE
    pcsc.set(answer=real.SCARD_E_NO_SERVICE)
    assert looks.get(timeout=WAIT).problem == "pcsc_no_service"
    time.sleep(0.6)  # all the short pauses of settling together; nothing tells that nothing happens
    before = pcsc.calls
    time.sleep(0.3)
    assert pcsc.calls == before
    pcsc.establish = pcsc.answer = real.SCARD_S_SUCCESS
    (tmp_path / "pcscd.comm").touch()
    assert looks.get(timeout=WAIT) == Look()


def test_polkits_no_is_told_as_that(pcsc: FakePcsc, looks: queue.Queue[Look]) -> None:
    assert looks.get(timeout=WAIT) == Look()
    pcsc.establish = real.SCARD_W_SECURITY_VIOLATION
    pcsc.set(answer=real.SCARD_E_NO_SERVICE)
    told = [looks.get(timeout=WAIT).problem, looks.get(timeout=WAIT).problem]
    assert told == ["pcsc_no_service", "pcsc_refused"]


def test_a_service_that_never_lets_wait_takes_no_whole_processor(
    pcsc: FakePcsc, looks: queue.Queue[Look]
) -> None:
    pcsc.set(lambda: pcsc.readers.update(A=0x10), spin=True)
    while looks.get(timeout=WAIT) == Look():
        pass
    before = pcsc.calls
    time.sleep(1.0)
    assert pcsc.calls - before < 120
    assert looks.empty()


def test_mute_and_exclusive_cards_are_told(pcsc: FakePcsc, looks: queue.Queue[Look]) -> None:
    assert looks.get(timeout=WAIT) == Look()
    mute, exclusive = real.SCARD_STATE_MUTE, real.SCARD_STATE_EXCLUSIVE
    pcsc.set(lambda: pcsc.readers.update(A=0x10020 | mute | exclusive))
    [reader] = looks.get(timeout=WAIT).readers
    assert (reader.mute, reader.exclusive, reader.present, reader.count) == (True, True, True, 1)


@pytest.mark.parametrize("name", ["Lecteur à puce", "\u202eredaeR", "Reader \U0001f4b3"])
def test_a_reader_whose_name_cant_be_passed_on_keeps_no_other_from_being_seen(
    pcsc: FakePcsc, looks: queue.Queue[Look], name: str
) -> None:
    assert looks.get(timeout=WAIT) == Look()
    pcsc.set(lambda: pcsc.readers.update({name: real.SCARD_STATE_EMPTY}))
    assert looks.get(timeout=WAIT).problem == "pcsc_reader_name"
    pcsc.set(lambda: pcsc.readers.update({"Reader": real.SCARD_STATE_EMPTY}))
    assert names(looks.get(timeout=WAIT)) == ["Reader"]


def test_a_name_that_is_no_text_is_named_as_that_until_it_goes(
    pcsc: FakePcsc, looks: queue.Queue[Look]
) -> None:
    assert looks.get(timeout=WAIT) == Look()
    pcsc.set(lambda: pcsc.readers.update({"Reader": real.SCARD_STATE_EMPTY}), unreadable=True)
    assert looks.get(timeout=WAIT).problem == "pcsc_reader_name"
    pcsc.set(unreadable=False)
    assert names(looks.get(timeout=WAIT)) == ["Reader"]
