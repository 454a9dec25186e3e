"""What a sample leaves out: combinations, never a value."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.samples import all_but_one_in, combined, in_turn, repeated

PROFILES = [f"card {number}" for number in range(5)]
WAYS, SIDES = ["change", "unblock"], ["before", "after"]


@pytest.mark.parametrize("longest", [PROFILES, PROFILES[:3]], ids=["more", "fewer than turns"])
def test_every_value_and_every_two_of_the_shorter_ones_come(longest: list[str]) -> None:
    found = combined(longest, WAYS, SIDES, whole=False)
    assert {profile for profile, _, _ in found} == set(longest)
    assert {(way, side) for _, way, side in found} == {(way, side) for way in WAYS for side in SIDES}
    assert len(found) == max(len(longest), 4)


def test_the_whole_is_everything_once() -> None:
    found = combined(PROFILES, WAYS, SIDES, whole=True)
    assert len(found) == len(set(found)) == 5 * 2 * 2


def test_tests_that_take_positions_in_turn_leave_none_out() -> None:
    parts = [in_turn(range(1, 8), turn, 2, whole=False) for turn in (0, 1)]
    assert sorted(at for part in parts for at in part) == list(range(1, 8))
    assert all(parts)
    assert list(in_turn(range(1, 8), 1, 2, whole=True)) == list(range(1, 8))


class _Test:
    def __init__(self, name: str, backend: str | None) -> None:
        self.path, self.nodeid = Path("test_one.py"), f"test_one.py::{name}"
        if backend is not None:
            self.callspec = SimpleNamespace(params={"backend": backend})


def test_of_each_function_the_first_stays_with_the_value_and_all_others_too() -> None:
    tests = cast(
        "list[pytest.Item]",
        [
            *(
                _Test(f"test_a[{kind}-{each}]", kind)
                for kind in ("sqlite", "postgresql")
                for each in range(3)
            ),
            _Test("test_b[postgresql]", "postgresql"),
            _Test("test_c", None),
        ],
    )
    left = repeated(tests, "backend", "postgresql", whole=False)
    assert [test.nodeid for test in left] == [f"test_one.py::test_a[postgresql-{each}]" for each in (1, 2)]
    assert repeated(tests, "backend", "postgresql", whole=True) == []


def test_one_function_in_so_many_of_a_file_keeps_the_value_and_those_that_are_kept() -> None:
    names = [
        "test_a[postgresql-1]",
        "test_b[postgresql-1]",
        "test_two_at_once[postgresql]",
        "test_c[postgresql]",
    ]
    names += ["test_b[postgresql-2]", "test_d[postgresql]"]
    others = [_Test("test_b[sqlite-1]", "sqlite"), _Test("test_e", None)]
    tests = cast("list[pytest.Item]", [*(_Test(name, "postgresql") for name in names), *others])
    left = all_but_one_in(2, tests, "backend", "postgresql", re.compile("at_once"), whole=False)
    assert [test.nodeid.partition("::")[2] for test in left] == [
        "test_b[postgresql-1]",
        "test_b[postgresql-2]",
        "test_d[postgresql]",
    ]
    assert all_but_one_in(2, tests, "backend", "postgresql", re.compile("at_once"), whole=True) == []
