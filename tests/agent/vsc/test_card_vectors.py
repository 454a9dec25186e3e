"""Bytes in, bytes out: every command against vectors made from the standards, the wrong ones first."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.virtual_cards import empty_card, store_in

_FOLDER = Path(__file__).parents[2] / "vectors" / "piv"


def _cases() -> list[object]:
    found: list[object] = []
    for path in sorted(_FOLDER.glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            found.append(pytest.param(case["exchanges"], id=f"{path.stem}: {case['name']}"))
    return found


@pytest.mark.parametrize("exchanges", _cases())
def test_vector(exchanges: list[tuple[str, str]], tmp_path: Path) -> None:
    """A fresh card (PIN 123456, PUK 87654321) answers each command as written; ``?`` is any digit."""
    card = empty_card(store_in(tmp_path))
    for command, expected in exchanges:
        answer = card.transmit(bytes.fromhex(command)).hex().upper()
        assert re.fullmatch(expected.replace("?", "[0-9A-F]"), answer), (command, expected, answer)
