"""A service that is ending refuses as polkit does: it is asked again, for a while, and the last answer counts."""

from __future__ import annotations

import pytest
from smartcard import scard as pcsc

from agent.pcsc import scard
from protocol.errors import InlayError


class Service:
    """Refuses so many contexts; how long was waited is added up, not waited."""

    def __init__(self, refusals: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refusals, self.waited = refusals, 0.0
        monkeypatch.setattr(scard, "establish", self._establish)
        monkeypatch.setattr("agent.pcsc.scard.time.sleep", self._sleep)

    def _establish(self) -> tuple[int, int]:
        self.refusals -= 1
        return (pcsc.SCARD_W_SECURITY_VIOLATION if self.refusals >= 0 else pcsc.SCARD_S_SUCCESS), 7

    def _sleep(self, seconds: float) -> None:
        self.waited += seconds


def test_one_that_goes_on_refusing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(1000, monkeypatch)
    with pytest.raises(InlayError) as caught:
        scard.Context()
    assert caught.value.code == "pcsc_refused"
    assert 1 < service.waited < 2


@pytest.mark.parametrize("refusals", [1, 4])
def test_one_that_is_there_again_is_used(refusals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(refusals, monkeypatch)
    scard.Context()
    assert service.refusals == -1


def test_one_that_refuses_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(0, monkeypatch)
    scard.Context()
    assert service.waited == 0
