"""What libpcsclite can't stand at the same time in one process is done one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from smartcard import scard as pyscard

from agent.pcsc import scard
from agent.pcsc.monitor import Monitor
from protocol.errors import InlayError

READER = "Reader"


class Service:
    """A PC/SC service whose handles can be struck off slowly, and whose ends of transactions fail as wanted.

    Attributes:
        calls: what it was asked, in order.
        striking: set while a handle is being struck off.
        go_on: lets that end.
        end: PC/SC's code for the end of a transaction.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.striking, self.go_on = threading.Event(), threading.Event()
        self.end: int = pyscard.SCARD_S_SUCCESS
        for name in (
            "EstablishContext",
            "ReleaseContext",
            "Disconnect",
            "Reconnect",
            "Connect",
            "EndTransaction",
        ):
            monkeypatch.setattr(pyscard, f"SCard{name}", getattr(self, name))

    def EstablishContext(self, _scope: int) -> tuple[int, int]:
        self.calls.append("establish")
        return pyscard.SCARD_S_SUCCESS, 1

    def ReleaseContext(self, _handle: int) -> int:
        self.calls.append("release")
        return 0

    def Connect(self, _context: int, _reader: str, _share: int, _protocols: int) -> tuple[int, int, int]:
        self.calls.append("connect")
        return pyscard.SCARD_S_SUCCESS, 2, pyscard.SCARD_PROTOCOL_T1

    def Reconnect(self, _card: int, _share: int, _protocols: int, disposition: int) -> tuple[int, int]:
        self.calls.append(f"reconnect {disposition}")
        return pyscard.SCARD_S_SUCCESS, pyscard.SCARD_PROTOCOL_T1

    def EndTransaction(self, _card: int, disposition: int) -> int:
        self.calls.append(f"end {disposition}")
        return self.end

    def Disconnect(self, _card: int, disposition: int) -> int:
        self.calls.append(f"disconnect {disposition}")
        self.striking.set()
        assert self.go_on.wait(20)
        self.calls.append("disconnected")
        return 0


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    return Service(monkeypatch)


def opens() -> None:
    scard.Context()


def watches() -> None:
    monitor = Monitor(lambda _look: None)
    monitor._open()
    monitor._release()


def other_session() -> None:
    scard.connect(READER).close()


@pytest.mark.parametrize("other", [opens, watches, other_session])
def test_while_a_handle_is_struck_off_no_context_comes_or_goes(
    service: Service, other: Callable[[], None]
) -> None:
    first = scard.connect(READER)
    closing = threading.Thread(target=first.close)
    closing.start()
    assert service.striking.wait(20)
    before = len(service.calls)
    second = threading.Thread(target=other)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    assert len(service.calls) == before
    service.go_on.set()
    closing.join(20)
    second.join(20)
    assert service.calls[before] == "disconnected"
    assert service.calls.count("establish") == 2


def test_a_card_is_reset_before_its_handle_is_struck_off_since_that_may_wait_for_others(
    service: Service,
) -> None:
    service.go_on.set()
    scard.connect(READER).close(reset=True)
    reset, leave = pyscard.SCARD_RESET_CARD, pyscard.SCARD_LEAVE_CARD
    assert service.calls[2:4] == [f"reconnect {reset}", f"disconnect {leave}"]


@pytest.mark.parametrize(
    ("code", "forgotten"),
    [
        (pyscard.SCARD_F_INTERNAL_ERROR, False),
        (pyscard.SCARD_E_NOT_TRANSACTED, False),
        (pyscard.SCARD_E_NO_SERVICE, False),
        (pyscard.SCARD_E_SHARING_VIOLATION, False),
        (pyscard.SCARD_W_REMOVED_CARD, True),
        (pyscard.SCARD_E_NO_SMARTCARD, True),
        (pyscard.SCARD_E_READER_UNAVAILABLE, True),
        (pyscard.SCARD_W_RESET_CARD, True),
        (pyscard.SCARD_S_SUCCESS, True),
    ],
)
def test_the_end_of_a_transaction_tells_whether_the_card_has_forgotten(
    service: Service, code: int, forgotten: bool
) -> None:
    service.end = code
    assert scard.connect(READER).end(reset=True) is forgotten


def test_no_service_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyscard, "SCardEstablishContext", lambda _scope: (pyscard.SCARD_E_NO_SERVICE, 0))
    with pytest.raises(InlayError) as caught:
        scard.Context()
    assert caught.value.code == "pcsc_no_service"
