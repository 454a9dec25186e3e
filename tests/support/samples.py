"""How much of what is tried everywhere `make test` tries: a sample that leaves no value out; `make whole` tries all.

A test that proves the same of every kind of card, in every way, on both sides of every command, is asked for each value
of each of these at least once, and for any two of the shorter ones together, instead of for all of them together.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

WHOLE: Final = os.environ.get("INLAY_WHOLE", "") == "1"
"""Everything is tried."""


def combined(longest: Sequence[Any], *others: Sequence[Any], whole: bool = WHOLE) -> list[tuple[Any, ...]]:
    """For ``pytest.mark.parametrize``: the values of several parameters.

    Args:
        longest: values of the parameter that has most; each comes once, the first ones again where that takes too few.
        others: values of the others; all their combinations come in turn.
        whole: every combination of everything instead.
    """
    if whole:
        return list(itertools.product(longest, *others))
    turns = list(itertools.product(*others))
    number = max(len(longest), len(turns))
    return [(longest[turn % len(longest)], *turns[turn % len(turns)]) for turn in range(number)]


def in_turn(positions: Sequence[int], turn: int, turns: int, *, whole: bool = WHOLE) -> Sequence[int]:
    """Of positions that several tests share, those of one of them.

    Args:
        positions: all of them.
        turn: which test this is, from 0.
        turns: how many they are.
        whole: all of them instead.
    """
    return positions if whole else positions[turn % turns :: turns]


def repeated(
    tests: Sequence[pytest.Item], parameter: str, value: object, *, whole: bool = WHOLE
) -> list[pytest.Item]:
    """Those that a sample leaves out: of each function the tests with this value of a parameter, but for the first.

    Args:
        tests: collected ones; those without the parameter stay.
        parameter: its name.
        value: one that changes little in what the function's other parameters show, as a second kind of database does.
        whole: none is left out.
    """
    seen: set[tuple[Path, str]] = set()
    left: list[pytest.Item] = []
    for test in tests if not whole else ():
        spec = getattr(test, "callspec", None)
        if spec is None or spec.params.get(parameter) != value:
            continue
        function = (test.path, test.nodeid.partition("[")[0])
        if function in seen:
            left.append(test)
        seen.add(function)
    return left


def all_but_one_in(
    turns: int,
    tests: Sequence[pytest.Item],
    parameter: str,
    value: object,
    kept: re.Pattern[str],
    *,
    whole: bool = WHOLE,
) -> list[pytest.Item]:
    """Those that a sample leaves out: of each file's functions with this value of a parameter, all but one in so many.

    Args:
        turns: of so many one stays, the first of each file among them.
        tests: collected ones; those without the parameter stay.
        parameter: its name.
        value: one that changes little in what most functions show.
        kept: found in the names of those that stay all the same.
        whole: none is left out.
    """
    seen: dict[Path, list[str]] = {}
    left: list[pytest.Item] = []
    for test in tests if not whole else ():
        spec = getattr(test, "callspec", None)
        if spec is None or spec.params.get(parameter) != value:
            continue
        function = test.nodeid.partition("[")[0]
        if kept.search(function):
            continue
        functions = seen.setdefault(test.path, [])
        if function not in functions:
            functions.append(function)
        if functions.index(function) % turns:
            left.append(test)
    return left
