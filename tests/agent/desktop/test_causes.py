"""The table of causes on the way to the agent: none collides with the protocol's, each is used and documented."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from agent.desktop.causes import TABLE, told
from protocol import errors

ROOT = Path(__file__).parents[3]


def test_an_unknown_code_is_a_fault_of_the_program() -> None:
    with pytest.raises(KeyError):
        told("no_such_code")


def test_a_missing_field_is_a_fault_of_the_program() -> None:
    with pytest.raises(KeyError):
        told("portal_ambiguous")


def test_no_code_is_one_of_the_protocols() -> None:
    assert TABLE.keys() & errors.TABLE.keys() == set()


@pytest.mark.parametrize("code", TABLE)
def test_every_cause_says_what_why_and_what_next(code: str) -> None:
    names = {name for text in TABLE[code] for _, name, _, _ in string.Formatter().parse(text) if name}
    filled = told(code, **dict.fromkeys(names, "here"))
    assert filled[0] == code
    for text in filled[1:]:
        assert text.endswith((".", "LINK", "CODE", "register", "agent"))
        assert "{" not in text


def test_every_cause_is_used_and_every_used_code_is_a_cause() -> None:
    pattern = re.compile(r"(?:told|AgentUnreachable)\(\s*\"([a-z_]+)\"")
    folder = ROOT / "agent" / "desktop"
    used = {code for path in folder.glob("*.py") for code in pattern.findall(path.read_text("utf-8"))}
    assert used == TABLE.keys()


def test_support_finds_every_cause() -> None:
    listed = re.findall(
        r"^\| `([a-z_]+)` \|", (ROOT / "docs" / "support.md").read_text("utf-8"), re.MULTILINE
    )
    assert listed == list(TABLE)


def test_a_code_written_out_elsewhere_is_the_protocols() -> None:
    pattern = re.compile(r"(?:Refusal|Problem)\(\s*\"([a-z_]+)\"")
    folder = ROOT / "agent" / "desktop"
    written = {code for path in folder.glob("*.py") for code in pattern.findall(path.read_text("utf-8"))}
    assert written <= errors.TABLE.keys()
