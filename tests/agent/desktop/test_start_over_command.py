"""`inlay start-over` on the command line: asks first, and puts nothing aside without a yes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.desktop import cli, cli_start_over

FOUND = {"cards": [{"card": "0" * 32, "portal": "portal.test", "account": "alex@example.org"}]}
DONE = FOUND | {"folder": "/state/put-aside-1"}


class Agent:
    """Answers as the agent does, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        assert params == {}
        self.asked.append(method)
        return DONE if method.endswith("confirm") else FOUND


class Terminal:
    """A person at a terminal."""

    def __init__(self, says: str, *, terminal: bool = True) -> None:
        self._says, self._terminal = says, terminal

    def isatty(self) -> bool:
        return self._terminal

    def readline(self) -> str:
        return self._says


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    fake = Agent()
    monkeypatch.setattr(cli_start_over, "request", fake)
    return fake


@pytest.mark.parametrize(
    ("person", "arguments", "code"),
    [
        (Terminal("no"), [], "user_cancelled"),
        (Terminal(""), [], "user_cancelled"),
        (Terminal("yes", terminal=False), [], "confirmation_required"),
        (Terminal("yes"), ["--json"], "confirmation_required"),
    ],
)
def test_without_a_yes_nothing_is_put_aside(
    agent: Agent,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    person: Terminal,
    arguments: list[str],
    code: str,
) -> None:
    monkeypatch.setattr("sys.stdin", person)
    assert cli.run(["start-over", *arguments]) == 1
    assert agent.asked == ["start_over"]
    told = capsys.readouterr()
    assert code in told.out + told.err


def test_with_a_yes_it_is_said_where_it_lies_and_what_comes_next(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    assert cli.run(["start-over"]) == 0
    assert agent.asked == ["start_over", "start_over.confirm"]
    out = capsys.readouterr().out
    assert "alex@example.org (portal.test)" in out
    assert "/state/put-aside-1" in out
    assert "https://portal.test/" in out


def test_for_programs(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["start-over", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == DONE
