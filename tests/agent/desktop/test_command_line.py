"""`inlay code | trust | cards | readers`, against a daemon that answers from a script."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from agent.desktop import cli
from tests.agent.desktop.fake_daemon import FakeDaemon

FOUND = {
    "portal": "portal.example.com",
    "name": "Example",
    "origin": "https://portal.example.com",
    "fingerprint": "AB12 CD34",
}

pytestmark = pytest.mark.usefixtures("throwaway_home", "no_display")


class Terminal(io.StringIO):
    """Standard input with a person at it; it has no descriptor to hand over."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def answer(request: dict[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = {
        "trust.add": FOUND,
        "trust.confirm": FOUND,
        "trust.list": {"portals": [FOUND]},
        "trust.remove": {"portal": "portal.example.com"},
        "cards": {
            "cards": [{"label": "Card\x1b of Maria", "serial": "12", "level": "keystore", "reader": None}]
        },
        "readers": {"readers": []},
        "code": {"accepted": True},
    }
    return {"result": results[request["method"]]}


def methods(daemon: FakeDaemon) -> list[str]:
    return [request["method"] for request in daemon.requests]


def test_trust_without_terminal_and_fingerprint_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(answer) as daemon:
        assert cli.run(["trust", "add", "https://portal.example.com"]) == 1
    assert methods(daemon) == ["trust.add"]
    assert "(confirmation_required)" in capsys.readouterr().err


def test_trust_with_another_fingerprint_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(answer) as daemon:
        status = cli.run(
            ["trust", "add", "https://portal.example.com", "--fingerprint", "AB12CD35", "--json"]
        )
    assert status == 1
    assert methods(daemon) == ["trust.add"]
    assert json.loads(capsys.readouterr().out)["error"] == "fingerprint_mismatch"


@pytest.mark.parametrize("said", ["", "no\n", "y\n"])
def test_trust_is_not_given_by_anything_but_yes(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(said))
    with FakeDaemon(answer) as daemon:
        assert cli.run(["trust", "add", "https://portal.example.com"]) == 1
    assert methods(daemon) == ["trust.add"]


def test_trust_shows_origin_and_fingerprint_and_confirms_what_was_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    with FakeDaemon(answer) as daemon:
        assert cli.run(["trust", "add", "https://portal.example.com", "--ca-file", "/ca.pem"]) == 0
    shown = capsys.readouterr().out
    assert "https://portal.example.com" in shown
    assert "AB12 CD34" in shown
    assert daemon.requests[1] == {
        "method": "trust.confirm",
        "params": {"url": "https://portal.example.com", "ca_file": "/ca.pem", "fingerprint": "AB12 CD34"},
    }


def test_trust_with_the_right_fingerprint_needs_no_question() -> None:
    with FakeDaemon(answer) as daemon:
        assert cli.run(["trust", "add", "https://portal.example.com", "--fingerprint", "ab12:cd34"]) == 0
    assert methods(daemon) == ["trust.add", "trust.confirm"]


@pytest.mark.parametrize("code", ["ABCDE", "ABCDE-FGHJK-M", "ABCDE FGHJU"])
def test_a_code_that_is_none_is_refused_before_anybody_is_asked(
    code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeDaemon(answer) as daemon:
        assert cli.run(["code", "--portal", "portal.example.com", code]) == 1
    assert methods(daemon) == []
    assert "(link_bad_code)" in capsys.readouterr().err


def test_a_code_without_any_portal_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon({"result": {"portals": []}}):
        assert cli.run(["code", "ABCDEFGHJK"]) == 1
    assert "inlay trust add" in capsys.readouterr().err


def test_a_code_with_several_portals_has_to_name_one(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon({"result": {"portals": [FOUND, FOUND | {"portal": "two.example"}]}}):
        assert cli.run(["code", "ABCDEFGHJK"]) == 1
    assert "(portal_ambiguous)" in capsys.readouterr().err


def test_a_code_goes_to_the_only_portal_in_its_one_form() -> None:
    with FakeDaemon(answer) as daemon:
        assert cli.run(["code", "abcde-fghjo"]) == 0
    assert daemon.requests[1]["params"]["code"] == "ABCDEFGHJ0"
    assert daemon.requests[1]["params"]["portal"] == "portal.example.com"


def test_lists_are_tables_for_people_and_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(answer):
        assert cli.run(["cards"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert cli.run(["cards", "--json"]) == 0
        decoded = json.loads(capsys.readouterr().out)
        assert cli.run(["readers"]) == 0
        assert "No card reader" in capsys.readouterr().out
        assert cli.run(["trust", "list"]) == 0
        assert "AB12 CD34" in capsys.readouterr().out
    assert lines == ["LABEL           SERIAL  KEYS IN", "Card? of Maria  12      keystore"]
    assert decoded["cards"][0]["serial"] == "12"


def test_removing_trust_names_the_portal() -> None:
    with FakeDaemon(answer) as daemon:
        assert cli.run(["trust", "remove", "portal.example.com"]) == 0
    assert daemon.requests == [{"method": "trust.remove", "params": {"portal": "portal.example.com"}}]


def test_a_wrong_command_line_is_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["trust"]) == 2
    assert cli.run(["cards", "--nonsense"]) == 2
    assert "usage" in capsys.readouterr().err
