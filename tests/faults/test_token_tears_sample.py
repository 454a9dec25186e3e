"""A sample of `make token-tears`, spread over jobs and modes; the whole is ``python -m tests.faults.token_tears``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.tear_processes import AgentForks
from tests.faults.token_jobs import JOBS, KILLS, MODES, NEW_PUK, Position, positions
from tests.faults.token_state import State, as_it_was
from tests.faults.token_tears import summary, tear
from tests.support.agent_parts import without_keystore
from tests.support.token_orders import NEW
from tests.support.token_readers import PIN, SO_PIN


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentForks]:
    """Agents that can be killed."""
    with AgentForks(tmp_path_factory.mktemp("agents")) as running:
        yield running


def test_what_changes_is_disturbed_each_time_and_what_asks_once() -> None:
    calls = [4, 6, 18, 26, 20, 26, 20]
    found = positions("encode", calls, ["crash"], every_call=False)
    assert [at.call for at in found] == [1, 2, 3, 4, 5, 7]
    assert len(positions("encode", calls, list(MODES), every_call=True)) == 7 * len(MODES)
    assert found[0] == Position("encode", 1, "crash", 4)


@pytest.fixture(autouse=True)
def no_keystore(monkeypatch: pytest.MonkeyPatch) -> None:
    without_keystore(monkeypatch)
    monkeypatch.setenv("SOFTHSM2_CONF", "")  # set back in the end


@pytest.mark.timeout(240)
async def test_nothing_is_lost_at_a_sample_of_positions(tmp_path: Path, agents: AgentForks) -> None:
    said: list[str] = []
    modes = [mode for mode in MODES if mode not in KILLS]
    rows = await tear(list(JOBS), modes, 61, said.append, tmp_path, agents, whole=False)
    assert {row.position.job for row in rows} == set(JOBS)
    assert [str(row) for row in rows if row.faults] == [], summary(rows)


@pytest.mark.timeout(240)
async def test_nothing_is_lost_where_the_agent_is_killed(tmp_path: Path, agents: AgentForks) -> None:
    said: list[str] = []
    rows = await tear(["change PIN", "unblock"], list(KILLS), 5, said.append, tmp_path, agents, whole=False)
    assert {row.position.mode for row in rows} == set(KILLS)
    assert [str(row) for row in rows if row.faults] == [], summary(rows)


def test_a_killed_agent_may_leave_something_beside_and_nothing_else() -> None:
    before = State(PIN, SO_PIN, frozenset({(b"1", "private key")}), frozenset({b"one"}), ("9A",))
    more = before._replace(keys=before.keys | {(b"2", "private key")})
    assert as_it_was(before, more, killed=True)
    assert not as_it_was(before, more, killed=False)
    assert as_it_was(before, before, killed=False)
    changes: list[dict[str, Any]] = [
        {"keys": frozenset()},
        {"certificates": frozenset()},
        {"pin": NEW},
        {"puk": NEW_PUK},
    ]
    for less in changes:
        assert not as_it_was(before, before._replace(**less), killed=True)
