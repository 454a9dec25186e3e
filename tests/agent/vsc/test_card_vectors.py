"""Bytes in, bytes out: every command against vectors made from the standards, the wrong ones first."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.vsc import command_parser, commands
from tests.support.virtual_cards import empty_card, prove_management, store_in

if TYPE_CHECKING:
    from agent.vsc.card import VirtualCard

_FOLDER = Path(__file__).parents[2] / "vectors" / "piv"
_SELECT = bytes.fromhex("00A404000BA000000308000010000100")
_VERIFY = bytes.fromhex("0020008008313233343536FFFF")


def _cases() -> list[object]:
    found: list[object] = []
    for path in sorted(_FOLDER.glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            name = f"{path.stem}: {case['name']}"
            found.append(pytest.param(case.get("setup", []), case["exchanges"], id=name))
    return found


def _set_up(card: VirtualCard, step: str) -> None:
    if step == "management":
        prove_management(card)
        return
    answer = card.transmit({"select": _SELECT, "pin": _VERIFY}[step])
    assert answer[-2:] == b"\x90\x00"


@pytest.mark.parametrize(("setup", "exchanges"), _cases())
def test_vector(setup: list[str], exchanges: list[tuple[str, str]], tmp_path: Path) -> None:
    """A fresh card (PIN 123456, PUK 87654321) answers each command as written: a pattern, ``?`` is any digit.

    ``setup`` names what has been done before: ``select``, ``management`` (its key is proved), ``pin``.
    """
    card = empty_card(store_in(tmp_path))
    for step in setup:
        _set_up(card, step)
    for command, expected in exchanges:
        answer = card.transmit(bytes.fromhex(command)).hex().upper()
        assert re.fullmatch(expected.replace("?", "[0-9A-F]"), answer), (command, expected, answer)


def test_every_command_has_vectors() -> None:
    """Right ones and wrong ones, for each instruction that the card knows."""
    answers: dict[int, set[str]] = {}
    for path in _FOLDER.glob("*.json"):
        for case in json.loads(path.read_text())["cases"]:
            for command, expected in case["exchanges"]:
                answers.setdefault(int(command[2:4] or "0", 16), set()).add(expected[-4:])
    for instruction in command_parser.INSTRUCTIONS | {commands.GET_RESPONSE}:
        assert any(status == "9000" or status.startswith("61") for status in answers[instruction])
        assert any(status.startswith(("63", "67", "69", "6A")) for status in answers[instruction])
