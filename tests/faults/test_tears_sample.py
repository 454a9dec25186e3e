"""A sample of `make tears`, spread over jobs, sides and modes; the whole of it is `python -m tests.faults.tears`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cards.profiles import Profile
from tests.faults import tears_over_pcscd
from tests.faults.tear_jobs import JOBS, MODES, POWER, PROFILE
from tests.faults.tear_processes import AgentForks
from tests.faults.tears import positions, summary, tear
from tests.support.pcscd import PrivatePcscd
from tests.support.wired_server import BRINGS, USES_KEY, kind


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentForks]:
    """Agents, each a process of its own that is there at once."""
    with AgentForks(tmp_path_factory.mktemp("agents")) as running:
        yield running


@pytest.mark.timeout(240)
async def test_nothing_is_lost_at_a_sample_of_positions(tmp_path: Path, agents: AgentForks) -> None:
    rows = await tear(list(JOBS), list(MODES), 41, tmp_path, agents)
    assert {row.position.mode for row in rows} == set(MODES)
    assert {row.position.job for row in rows} == set(JOBS)
    assert [str(row) for row in rows if row.faults] == [], summary(rows)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "card",
    [PROFILE, replace(PROFILE, unselected=0x6A82), replace(PROFILE, selected_by_power=True)],
    ids=["6D00", "6A82", "selected by itself"],
)
async def test_every_job_ends_on_a_card_whose_power_is_cut_without_a_word(
    tmp_path: Path, agents: AgentForks, card: Profile
) -> None:
    jobs = ["encode", "re-encode", "extend", "block"]
    rows = await tear(jobs, [POWER], 13, tmp_path, agents, card)
    assert {row.position.job for row in rows} == set(jobs)
    assert [str(row) for row in rows if row.faults] == [], summary(rows)


@pytest.mark.parametrize(("jobs", "every"), [(["encode"], 19), (["verify PIN", "change PUK", "block"], 11)])
async def test_nothing_is_lost_over_a_real_pcscd_at_a_handful_of_positions(
    tmp_path: Path, agents: AgentForks, pcscd: PrivatePcscd, jobs: list[str], every: int
) -> None:
    rows = await tears_over_pcscd.tear(jobs, list(MODES), every, tmp_path, agents, pcscd.vpcd_port)
    assert {row.position.mode for row in rows} == set(MODES)
    assert {row.position.job for row in rows} == set(jobs)
    assert [str(row) for row in rows if row.faults] == [], summary(rows)


@pytest.mark.parametrize(
    ("apdu", "what"),
    [
        ("0020008000", 0x20),
        ("0020008008313233343536FFFF", 0x20 + BRINGS),
        ("0087039B047C02800000", 0x87),
        ("0087039B047C02810000", 0x87),
        ("0087039B167C14800801020304050607088108010203040506070800", 0x87 + BRINGS),
        ("0087119A047C02800000", 0x87 + USES_KEY),
        ("00FE0000", 0xFE),
        ("00FE0000" + "00", 0xFE),
        ("00FE119D0306010A", 0xFE + BRINGS),
        ("00FF0000", 0xFF),
        ("00FFFFFF030A9B00", 0xFF + BRINGS),
        ("00F7009B00", 0xF7),
    ],
)
def test_what_only_asks_is_another_kind_of_command(apdu: str, what: int) -> None:
    assert kind(bytes.fromhex(apdu)) == what


def test_positions_are_all_sides_and_modes_of_each_apdu() -> None:
    found = positions("encode", 7, list(MODES), 1)
    assert len(found) == len(set(found)) == 7 * 2 * 3
    assert len(positions("encode", 7, [POWER], 1)) == 7
