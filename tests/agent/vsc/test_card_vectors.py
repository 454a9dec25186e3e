"""Bytes in, bytes out: every command against vectors made from the standards, the wrong ones first."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.vsc import command_parser, commands
from agent.vsc.keys_software import SoftwareKeys
from tests.support.virtual_cards import empty_card, prove_management, store_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.vsc.card import VirtualCard

_FOLDER = Path(__file__).parents[2] / "vectors" / "piv"
_SELECT = bytes.fromhex("00A404000BA000000308000010000100")
_VERIFY = bytes.fromhex("0020008008313233343536FFFF")


def _cases() -> list[object]:
    found: list[object] = []
    for path in sorted(_FOLDER.glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            name = f"{path.stem}: {case['name']}"
            found.append(pytest.param(case, id=name))
    return found


def _set_up(card: VirtualCard, step: str) -> None:
    if step == "management":
        prove_management(card)
        return
    if step == "reset":
        card.reset()
        return
    word, _, command = step.partition(" ")
    answer = card.transmit(
        bytes.fromhex(command) if word == "key" else {"select": _SELECT, "pin": _VERIFY}[step]
    )
    assert answer[-2:] == b"\x90\x00"


def _drawing(numbers: str) -> Callable[[SoftwareKeys, int], bytes]:
    """A source of random bytes that draws those of a published example."""

    def draw(_keys: SoftwareKeys, length: int) -> bytes:
        drawn = bytes.fromhex(numbers)
        assert len(drawn) == length
        return drawn

    return draw


@pytest.mark.parametrize("case", _cases())
def test_vector(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh card (PIN 123456, PUK 87654321) answers each command as written: a pattern, ``?`` is any digit.

    ``setup`` names what has been done before: ``select``, ``management`` (its key is proved), ``pin``, ``reset``,
    ``key …`` (the command that sets another management key). ``random``: what the card draws from then on.
    """
    card = empty_card(store_in(tmp_path))
    for step in case.get("setup", []):
        _set_up(card, step)
    if "random" in case:
        monkeypatch.setattr(SoftwareKeys, "random_bytes", _drawing(case["random"]))
    for command, expected in case["exchanges"]:
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
