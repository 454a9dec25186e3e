"""A sample of `make lies`: whatever a card answers, the cause is named and software spends no try."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import keys_system
from tests.faults.lies import LIES, LieAt, lie, was_right
from tests.faults.tears import summary

JOBS = ["encode", "change PIN", "unblock"]
EVERY = 9


@pytest.mark.parametrize("name", LIES)
async def test_whatever_is_answered_to_a_command_of_an_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def missing() -> object:
        raise keys_system.KeystoreMissing

    monkeypatch.setattr(keys_system, "_trusted_backend", missing)
    said: list[str] = []
    # each lie at other positions
    rows = await lie(JOBS, [name], EVERY, said.append, tmp_path, first=list(LIES).index(name))
    assert {row.position.mode for row in rows} == {name}
    assert [str(row) for row in rows if row.faults] == [], summary(rows, "lies")


@pytest.mark.parametrize("name", ["no status", "61xx without end"])
@pytest.mark.parametrize("job", ["change PIN", "unblock"])
async def test_an_answer_that_cant_be_read_leaves_the_pin_unknown_until_a_person_finds_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, name: str
) -> None:
    def missing() -> object:
        raise keys_system.KeystoreMissing

    monkeypatch.setattr(keys_system, "_trusted_backend", missing)
    said: list[str] = []
    rows = await lie([job], [name], 1, said.append, tmp_path)
    # the last command is the one that sets the PIN
    assert rows[-1].position == LieAt(job, len(rows), "after", name)
    assert [(row.end, row.faults) for row in rows[-1:]] == [("finished", [])]
    assert [str(row) for row in rows if row.faults] == []


@pytest.mark.parametrize("name", ["no status", "a wrong status"])
async def test_a_card_whose_tries_were_spent_is_said_to_be_half_done_whatever_blocking_it_ends_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def missing() -> object:
        raise keys_system.KeystoreMissing

    monkeypatch.setattr(keys_system, "_trusted_backend", missing)
    said: list[str] = []
    # from the first try on, three commands of thirty-two
    rows = await lie(["block"], [name], 7, said.append, tmp_path, first=11)
    assert len(rows) == 3
    assert [str(row) for row in rows if row.faults] == []
    assert any("half done" in row.end for row in rows)


def test_a_pin_counts_as_right_only_after_the_card_was_given_that_very_one() -> None:
    """What the judge lets pass: VERIFY again with a PIN that this order has set or verified, and nothing else."""
    pin, other, puk = (value.ljust(8, b"\xff") for value in (b"135790", b"246801", b"97531864"))
    verify = bytes.fromhex("0020008008") + pin
    change, unblock = (bytes((0, code, 0, 0x80, 16)) for code in (0x24, 0x2C))
    asked = bytes.fromhex("00200080")
    assert not was_right(verify, [])
    assert not was_right(verify, [asked, bytes.fromhex("0020008008") + other])
    assert not was_right(verify, [change + pin + other])  # it is the old one
    assert not was_right(unblock + puk + pin, [unblock + puk + pin])
    assert was_right(verify, [asked, unblock + puk + pin])
    assert was_right(verify, [verify])
