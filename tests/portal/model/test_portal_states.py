"""The tables of states are those of the mission, and nothing else is possible."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from portal.errors import WrongReason, WrongState
from portal.model import states
from portal.model.graphs import ALWAYS_GOOD, StateGraph, Why
from portal.model.states import CardState

# start state first; "A>B" for each transition that there is
_TABLES: dict[str, tuple[StateGraph[Any], str]] = {
    "card": (
        states.CARD,
        "Registered>Requested Requested>Approved Requested>Rejected Requested>Aborted Approved>Issued Approved>Failed "
        "Approved>Aborted Failed>Issued Failed>Aborted Issued>Active Issued>Locked Issued>Expired Active>Inactive "
        "Inactive>Active Active>Locked Active>Expired Inactive>Locked Inactive>Expired",
    ),
    "temporary card": (
        states.TEMPORARY_CARD,
        "Requested>Unassigned Requested>Failed Requested>Aborted Failed>Unassigned Unassigned>Assigned "
        "Assigned>Unassigned Assigned>Expired Assigned>Assigned Expired>Unassigned Assigned>Locked "
        "Unassigned>Unassigned Unassigned>Failed Unassigned>Locked Assigned>Failed Failed>Assigned Failed>Locked",
    ),
    "virtual smart card": (
        states.VIRTUAL_SMART_CARD,
        "Registered>Active Registered>Locked Active>Inactive Inactive>Active Active>Locked Active>Expired "
        "Inactive>Locked Inactive>Expired Active>Replaced Inactive>Replaced",
    ),
    "mobile id": (
        states.MOBILE_ID,
        "Registered>Active Registered>Locked Active>Inactive Inactive>Active Active>Locked Active>Expired "
        "Inactive>Locked Inactive>Expired",
    ),
    "certificate": (
        states.CERTIFICATE,
        "Issued>Valid Issued>Revoked Issued>Expired Valid>On_Hold On_Hold>Valid Valid>Revoked Valid>Expired "
        "On_Hold>Revoked On_Hold>Expired",
    ),
    "order": (
        states.ORDER,
        "waiting>running waiting>undone running>finishing running>undoing finishing>finished undoing>undone",
    ),
    "process": (states.PROCESS, "running>finished running>cancelled running>failed"),
}
_FINAL = {
    "card": {"Aborted", "Rejected", "Locked", "Expired"},
    "temporary card": {"Aborted", "Locked"},
    "virtual smart card": {"Locked", "Replaced", "Expired"},
    "mobile id": {"Locked", "Expired"},
    "certificate": {"Revoked", "Expired"},
    "order": {"finished", "undone"},
    "process": {"finished", "cancelled", "failed"},
}


def _allowed(text: str) -> set[tuple[str, str]]:
    pairs = (item.split(">") for item in text.split())
    return {(before.replace("_", " "), after.replace("_", " ")) for before, after in pairs}


_CASES = [
    pytest.param(
        graph, before, after, (before.value, after.value) in _allowed(text), id=f"{name}:{before}>{after}"
    )
    for name, (graph, text) in _TABLES.items()
    for before in sorted(graph.states)
    for after in sorted(graph.states)
]


@pytest.mark.parametrize(("graph", "before", "after", "allowed"), _CASES)
def test_transition(graph: StateGraph[Any], before: enum.StrEnum, after: enum.StrEnum, allowed: bool) -> None:
    """Allowed, or refused with the states that would do."""
    if allowed:
        assert graph.check(before, after) is after
        return
    with pytest.raises(WrongState) as caught:
        graph.check(before, after)
    assert caught.value.state == before.value
    assert caught.value.would_do == sorted(state.value for state in graph.before(after))
    assert str(caught.value)


@pytest.mark.parametrize("name", _TABLES)
def test_start_and_final_states(name: str) -> None:
    """The start state is the table's first, the final ones are those of the mission."""
    graph, text = _TABLES[name]
    assert graph.start == text.split(">", 1)[0]
    assert {state.value for state in graph.final} == _FINAL[name]
    assert frozenset(type(graph.start).__members__.values()) == graph.states


@pytest.mark.parametrize("name", _TABLES)
def test_every_state_reaches_a_final_one(name: str) -> None:
    """No object can be stuck."""
    assert _TABLES[name][0].stuck() == frozenset()


def test_a_state_without_an_end_is_found() -> None:
    """The walk finds what it is for."""
    graph = StateGraph("x", "a", {"a": {"b": ()}, "b": {"a": ()}, "c": {"d": ()}, "d": {}})
    assert graph.stuck() == {"a", "b"}


@pytest.mark.parametrize("name", ["card", "temporary card", "virtual smart card", "mobile id", "certificate"])
def test_every_transition_of_an_object_names_its_reasons(name: str) -> None:
    """Why an object changed is said where it can be: by the table. Another reason is refused."""
    graph, _ = _TABLES[name]
    for (before, after), reasons in graph.reasons.items():
        assert reasons, (before, after)
        for why in Why:
            if why in reasons or why in ALWAYS_GOOD:
                assert graph.check(before, after, why) is after
                continue
            with pytest.raises(WrongReason) as caught:
                graph.check(before, after, why)
            assert caught.value.would_do == sorted(reasons)
            assert str(caught.value)


def test_a_state_of_another_table() -> None:
    """A word that the table doesn't have is refused like any wrong state."""
    with pytest.raises(WrongState):
        states.CARD.check(CardState.ACTIVE, "Replaced")  # type: ignore[arg-type]  # what a row might hold
