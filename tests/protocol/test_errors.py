"""The table of errors: complete, distinct, and fit for people."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from protocol import error_table, errors

ROOT = Path(__file__).parents[2]


def test_every_code_and_number_stands_once() -> None:
    rows = error_table._ROWS
    assert len({row.code for row in rows}) == len(rows)
    assert len({row.number for row in rows}) == len(rows)


@pytest.mark.parametrize("row", errors.TABLE.values(), ids=lambda row: row.code)
def test_every_error_says_what_why_and_what_next(row: errors.Cause) -> None:
    for text in (row.happened, row.why, row.next_step):
        assert text[0].isupper()
        assert not re.search(r"exception|traceback|errno|None", text, re.IGNORECASE)
        list(string.Formatter().parse(text))


def test_an_unknown_code_is_a_fault_of_the_program() -> None:
    with pytest.raises(KeyError):
        errors.InlayError("no_such_code")


def test_an_unknown_code_of_a_peer_is_not_shown() -> None:
    assert errors.from_wire("<script>", {}).code == "internal"


def test_fields_fill_the_text_and_missing_ones_break_nothing() -> None:
    assert "example.org" in errors.InlayError("portal_unknown", portal="example.org").why
    assert "?" in errors.InlayError("portal_unknown").why


@pytest.mark.parametrize(
    "code",
    ["card_pin_wrong", "card_puk_wrong", "card_puk_other", "pkcs11_pin_wrong", "pkcs11_puk_wrong"],
)
def test_of_tries_that_the_card_does_not_tell_that_is_said(code: str) -> None:
    field = "left" if code.startswith("pkcs11") else "tries"
    assert "tries left: the card doesn't tell how many." in errors.InlayError(code).why
    assert "tries left: the card doesn't tell how many." in errors.from_wire(code, {field: "<b>"}).why
    told = errors.from_wire(code, {field: "few" if field == "left" else 2}).why
    assert f"tries left: {'few' if field == 'left' else 2}." in told


def test_every_code_raised_in_the_source_is_in_the_table() -> None:
    pattern = re.compile(r"(?:InlayError|DecodeError)\(\s*\"([a-z_]+)\"")
    used = {
        (path.name, code)
        for folder in ("agent", "portal", "protocol")
        for path in (ROOT / folder).rglob("*.py")
        for code in pattern.findall(path.read_text())
    }
    assert {(name, code) for name, code in used if code not in errors.TABLE} == set()
    assert used
