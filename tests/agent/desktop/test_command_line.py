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


@pytest.mark.parametrize("json_too", [False, True])
def test_a_readers_name_does_nothing_to_the_terminal(
    capsys: pytest.CaptureFixture[str], json_too: bool
) -> None:
    """Controls of both tables (C0, C1), a text turned around, a new line that would look like another reader."""
    name = "Reader\x1b[2J\x9b2J\u202ebad\u2028next\r\n\x7f <b>\U0001f4b3"
    with FakeDaemon({"result": {"readers": [{"name": name, "card": True, "atr": "3B00", "label": None}]}}):
        assert cli.run(["readers", *(["--json"] if json_too else [])]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert len(out.splitlines()) == (1 if json_too else 2)
    assert not json_too or json.loads(out)["readers"][0]["name"] == name


def test_removing_trust_names_the_portal() -> None:
    with FakeDaemon(answer) as daemon:
        assert cli.run(["trust", "remove", "portal.example.com"]) == 0
    assert daemon.requests == [{"method": "trust.remove", "params": {"portal": "portal.example.com"}}]


def test_a_wrong_command_line_is_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["trust"]) == 2
    assert cli.run(["cards", "--nonsense"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "method"),
    [
        ("change-pin", "cards.change_pin"),
        ("unblock", "cards.unblock"),
        ("delete", "cards.delete"),
        ("show", "cards.window"),
    ],
)
def test_a_command_about_a_card_waits_for_its_person_and_says_what_came_of_it(
    argument: str, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = {"card": "ab" * 16, "label": "Card", "done": "It is done.", "notes": ["And\x1b this."]}
    window = ["--window"] if argument == "show" else []
    with FakeDaemon({"result": {"hold": True}}, final={"result": done}) as daemon:
        daemon.after_hold.set()
        assert cli.run(["cards", argument, *window, "4711"]) == 0
        assert cli.run(["cards", argument, *window, "--json"]) == 0
    said, decoded = capsys.readouterr().out.split("{", 1)
    assert said == "It is done.\nAnd? this.\n"
    assert json.loads("{" + decoded) == done
    assert [request["method"] for request in daemon.requests] == [method, method]
    assert [request["params"]["card"] for request in daemon.requests] == ["4711", None]


@pytest.mark.parametrize("argument", ["change-pin", "unblock", "delete"])
def test_what_the_person_refuses_is_the_commands_failure(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = {"error": {"error": "pin_blocked", "message": "Blocked.", "why": "W.", "next_step": "N."}}
    with FakeDaemon({"result": {"hold": True}}, final=refusal) as daemon:
        daemon.after_hold.set()
        assert cli.run(["cards", argument, "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["error"] == "pin_blocked"
        assert cli.run(["cards", argument]) == 1
    assert "(pin_blocked)" in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["change-pin", "unblock", "delete"])
def test_a_pin_is_no_argument(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["cards", argument, "4711", "123456"]) == 2
    assert cli.run(["cards", argument, "--pin", "123456"]) == 2
    assert "usage" in capsys.readouterr().err


def test_showing_cards_writes_all_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    line = {
        "slot": "9A",
        "purpose": "Authentication",
        "subject": "CN=M\x07",
        "not_before": "2026-01-01",
        "not_after": "2028-01-01",
    }
    good = {"card": "ab" * 16, "label": "Card", "serial": "12", "pin_tries": 0, "certificates": [line]}
    bad = {"card": "cd" * 16, "label": None, "state": "unusable", "problem": "Damaged."}
    with FakeDaemon({"result": {"cards": [good, bad]}}):
        assert cli.run(["cards", "show"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert cli.run(["cards", "--json", "show"]) == 0
        assert json.loads(capsys.readouterr().out) == {"cards": [good, bad]}
    assert lines == [
        "Card",
        "  Serial       12",
        "  PIN tries    none, it is blocked",
        "  9A  Authentication: CN=M?",
        "      valid from 2026-01-01 to 2028-01-01",
        "",
        f"Card {'cd' * 16}",
        "  State        unusable",
        "  Problem      Damaged.",
    ]
    with FakeDaemon({"result": {"cards": []}}):
        assert cli.run(["cards", "show"]) == 0
    assert "no virtual card" in capsys.readouterr().out
