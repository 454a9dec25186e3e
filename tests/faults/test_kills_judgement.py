"""The judgement of `make kills` by itself: it is not soft where nothing ended, nor hard on a busy machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from agent.journal import Journal, OpenClaim, OrderRef
from agent.sealing import Sealer
from protocol.messages import Transport
from tests.faults import judge, moments
from tests.faults.moments import NOT_REACHED, Moment, Patience, Row, summary, twice, uniform
from tests.faults.plan import Boundary
from tests.faults.scene import Desk, Scene, waited

if TYPE_CHECKING:
    from tests.support.daemon_process import DaemonProcess

CLAIM = OpenClaim("portal.test", "code", Transport.LINK, None)


def _waiting_order(state: Path) -> tuple[Scene, Desk]:
    """A portal that waits for an order to be claimed, and an agent's folder."""
    scene = SimpleNamespace(order=lambda: ("jti", "waiting"), about_card=["jti"], unrevoked=lambda _jti: 0)
    agent = SimpleNamespace(state=state)
    return cast("Scene", scene), Desk(state, cast("DaemonProcess", agent))


def test_what_was_written_down_has_begun(tmp_path: Path) -> None:
    """A claim in the agent's journal, or an order: it must come to an end, even if the portal knows of nothing."""
    scene, desk = _waiting_order(tmp_path)
    assert judge.end_of(scene, desk) == judge.NOT_BEGUN
    journal = Journal(tmp_path / "journal.sqlite", Sealer(bytes(32)))
    assert judge.end_of(scene, desk) == judge.NOT_BEGUN
    journal.open_claim(CLAIM)
    assert judge.end_of(scene, desk) == ""
    journal.begin(OrderRef("portal.test", "jti"), "token", b"key", CLAIM)
    assert judge.end_of(scene, desk) == ""
    journal.close()


def test_an_end_that_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a machine with time for it, nor by one that is always busy."""
    monkeypatch.setattr(moments, "END_SECONDS", 0.05)
    monkeypatch.setattr(moments, "_STARVED_AT_MOST", 0.1)
    assert not Patience(lambda: 0.0).wait_for(lambda: False)
    begun = time.monotonic()
    assert not Patience(lambda: time.monotonic() - begun).wait_for(lambda: False)


def test_time_without_a_processor_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end comes later than it may, and in the processes' own time at once."""
    monkeypatch.setattr(moments, "END_SECONDS", 0.05)
    begun = time.monotonic()
    patience = Patience(lambda: time.monotonic() - begun)
    assert patience.wait_for(lambda: time.monotonic() - begun > 0.2)
    assert patience.seconds > moments.END_SECONDS
    row = Row(Moment("agent", 0.5), judge.FINISHED, patience.seconds, [], patience.starved)
    assert "s without a processor" in str(row)


def test_the_last_line_counts_rows_and_what_is_left_over() -> None:
    """Who was not killed isn't counted; a certificate that nobody has is an order lost."""
    rows = [
        Row(Moment("agent", 0.1), judge.UNDONE, 1.0, []),
        Row(Moment("window", 0.2), NOT_REACHED, 0.0, []),
        Row(Moment("portal", 0.3), "lost", 60.0, ["portal running"]),
    ]
    assert summary(rows) == "kills: 2 moments, 1 lost"
    assert summary(rows, ["1 valid certificates without a card"]) == "kills: 2 moments, 2 lost"


def test_moments_are_repeatable() -> None:
    """A printed seed gives the same moments again; a window isn't killed twice."""
    boundaries = [Boundary("agent", "begin", 1, "before"), Boundary("portal", "Claims.claim", 1, "after")]
    assert uniform(7, 9) == uniform(7, 9)
    drawn = twice(7, 9, boundaries)
    assert drawn == twice(7, 9, boundaries)
    assert len(drawn) == 9
    assert {moment.victim for moment in drawn} == {"agent", "portal", "pcscd"}
    assert all("again after" in str(moment) for moment in drawn)
    assert twice(7, 9, boundaries, ["window"]) == []


def test_waiting_is_read_of_a_process_that_is_there() -> None:
    """And is nothing for one that isn't."""
    assert waited(os.getpid()) >= 0.0
    assert waited(2**22 + 1) == 0.0
