"""What a page is told of the doctor's findings: codes that it has words for, and nothing that is the machine's own."""

from __future__ import annotations

import dataclasses
import string
from pathlib import Path
from typing import get_args

import pytest

from agent import card_map
from agent.doctor import page_view, readers
from agent.doctor.readers import Card, Ports, Seen
from agent.pcsc.look import Evidence
from agent.pcsc.scard import ReaderState
from protocol import codec
from protocol.errors import InlayError
from protocol.messages import CheckComputerResult
from protocol.page_findings import PAGE_FINDINGS, FindingCode

NOWHERE = Path("/nowhere")
PIV = frozenset({bytes.fromhex("A000000308")})
KINDS = card_map.load(NOWHERE)


def told(monkeypatch: pytest.MonkeyPatch, seen: Seen, *cards: Card) -> list[str]:
    monkeypatch.setattr(readers, "see", lambda: seen)
    monkeypatch.setattr(readers, "see_ports", lambda: Ports(()))
    monkeypatch.setattr(readers, "look_at_cards", lambda *_: list(cards))
    found = page_view.examine(NOWHERE)
    result = CheckComputerResult(findings=found)
    assert codec.decode(codec.encode(result), CheckComputerResult) == result
    return [finding.code for finding in found]


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (Seen(InlayError("pcsc_no_service"), installed=False, socket=False), "service_missing"),
        (Seen(InlayError("pcsc_no_service"), socket=False), "service_stopped"),
        (Seen(InlayError("pcsc_no_service")), "service_dead"),
        (Seen(None, None), "service_silent"),
        (Seen(InlayError("pcsc_refused")), "service_refused"),
        (Seen(InlayError("pcsc_failed", cause="80100003")), "service_failing"),
    ],
)
def test_a_service_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, seen: Seen, code: str) -> None:
    assert told(monkeypatch, seen) == [code]


def test_readers_are_told_only_where_something_is_the_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, Seen(None)) == ["service_answers", "reader_none"]
    assert told(monkeypatch, Seen(None, usb=("CCID",))) == ["service_answers", "reader_undriven"]
    there = Seen(None, (ReaderState("A", present=False, atr=b""),))
    assert told(monkeypatch, there) == ["service_answers"]


@pytest.mark.parametrize(
    ("card", "codes"),
    [
        (Card("A"), ["card_busy"]),
        (Card("A", problem=InlayError("pcsc_card_mute")), ["card_unread"]),
        (Card("A", Evidence(b"\x3b\x80")), ["card_unmapped"]),
        (Card("A", Evidence(b"\x3b\x80", PIV, pin_tries=3)), ["card_driver"]),
        (Card("A", Evidence(b"\x3b\x80", PIV, pin_tries=1)), ["card_driver", "card_last_try"]),
        (Card("A", Evidence(b"\x3b\x80", PIV, pin_tries=0)), ["card_driver", "card_blocked"]),
    ],
)
def test_a_card_and_the_driver_chosen_for_it(
    monkeypatch: pytest.MonkeyPatch, card: Card, codes: list[str]
) -> None:
    there = Seen(None, (ReaderState("A", present=True, atr=b"\x3b\x80"),))
    assert told(monkeypatch, there, card)[1:] == codes


def test_a_missing_module_is_named_without_its_path() -> None:
    kind = dataclasses.replace(
        KINDS.kinds[0], driver="pkcs11", module=NOWHERE / "module.so", atr=None, aid=None, has=frozenset()
    )
    [found] = page_view.of_card(
        Card("A", Evidence(b"\x3b\x80")), dataclasses.replace(KINDS, kinds=(kind,)), NOWHERE
    )
    assert (found.code, found.kind, found.driver) == ("card_module_missing", kind.name, "pkcs11")
    assert b"module.so" not in codec.encode(found)


def test_every_code_has_words_and_they_hold_nothing_of_the_machine() -> None:
    assert PAGE_FINDINGS.keys() == set(get_args(FindingCode))
    for code, row in PAGE_FINDINGS.items():
        assert bool(row.next_step) is (row.level != "ok"), code
        names = {name for text in row[1:] for _, name, _, _ in string.Formatter().parse(text) if name}
        assert names <= {"kind", "driver"}
        assert "/" not in row.happened.replace("PC/SC", "")
