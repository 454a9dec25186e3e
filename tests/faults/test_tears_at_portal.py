"""A sample of tears against the portal itself: each certificate that its CA calls good is on a card with its key.

A temporary card is encoded, and extended, from the operator's page to the card: by the real portal with its built-in
CA, by a real agent, with a simulated card. It is disturbed in each of the ways of `tests.faults.tears`; what becomes of
the certificates is what `tests.support.issued_ledger` says of them.

So are cards of a batch, and one that proves itself and is reset; the whole of these is ``make tears``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.cards.independent.in_reader import independent
from tests.cards.profiles import RESET as RESET_COMMAND
from tests.cards.profiles import Profile
from tests.faults.portal_disturbance import BETWEEN, EXCHANGED, TAKEN
from tests.faults.portal_extend import ExtendDesk, ResetDesk
from tests.faults.tear_jobs import CUT, KILLED, MODES, TORN, Position
from tests.faults.tear_processes import AgentForks
from tests.faults.tears_at_portal import JOBS, RESET, at_portal, positions
from tests.support.agent_parts import without_keystore
from tests.support.attack_stage import running_stage
from tests.support.certificates import ThrowAwayCA
from tests.support.late_answers import Patience, patience

__all__ = ["patience"]


class At(NamedTuple):
    """A moment: before or after the APDU of this number, of a first encoding or of an extension."""

    first: bool
    apdu: int
    side: str


_MOMENTS: Final = {
    # of some forty APDUs of a first encoding, of some thirty of an extension
    TORN: [At(True, 12, "after"), At(True, 22, "before"), At(False, 16, "after")],
    CUT: [At(True, 14, "before"), At(True, 30, "after"), At(False, 20, "before")],
    KILLED: [At(True, 22, "after"), At(False, 9, "before"), At(False, 24, "after")],
}
_BATCH: Final = [
    # of some twenty APDUs; the card is being changed from the seventh on
    Position("batch, first card", 2, "after", TAKEN),
    Position("batch, first card", 12, "before", CUT),
    Position("batch, next card", BETWEEN, "after", KILLED),
    Position("batch, next card", 9, "after", EXCHANGED),
    Position("batch, card once more", 16, "after", TORN),
    Position("batch, another card", 10, "after", KILLED),
]


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentForks]:
    with AgentForks(tmp_path_factory.mktemp("agents")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_keystore(monkeypatch: pytest.MonkeyPatch) -> None:
    without_keystore(monkeypatch)


@pytest.fixture
async def desk(tmp_path: Path, https_ca: ThrowAwayCA, agents: AgentForks) -> AsyncIterator[ExtendDesk]:
    async with running_stage(tmp_path, https_ca) as stage:
        opened = ExtendDesk(stage, tmp_path, agents)
        await opened.open()
        yield opened


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", MODES)
async def test_no_certificate_is_good_without_its_card(desk: ExtendDesk, mode: str) -> None:
    encoded, encoded_card = await desk.new_card()
    assert (await desk.extend(encoded, encoded_card)).end == "finished"
    assert await desk.judge(1) == []
    cards = 1
    for at in _MOMENTS[mode]:
        found, card = await desk.new_card() if at.first else (encoded, encoded_card)
        before = cards
        cards += at.first
        carried = await desk.extend(found, card, Position("", at.apdu, at.side, mode))
        assert carried.faults == []
        if carried.end != "finished":
            # half done: what its slots had before is revoked, too; a card from its maker had none
            assert await desk.judge(before - (carried.half_done and not at.first)) == []
            assert (await desk.extend(found, card)).end == "finished"
        assert await desk.judge(cards) == []
        assert desk.tries_left() == []
    # torn out and cut off it goes on where it was; an agent that was killed undoes what it can't finish
    assert ("undone" in desk.ended) == (mode == KILLED)


@pytest.mark.timeout(240)
async def test_each_card_of_a_batch_is_made_once_or_the_page_says_why_not(
    tmp_path: Path, https_ca: ThrowAwayCA, agents: AgentForks
) -> None:
    async with at_portal(tmp_path, agents, https_ca) as runs:
        rows = [await runs.run(at) for at in _BATCH]
    assert [str(row) for row in rows if row.faults] == []
    assert [row.end for row in rows] == [
        "undone, card as it was",
        "finished",
        "undone, card as it was",
        "finished",
        "finished",
        "undone, card half done",
    ]


@pytest.mark.timeout(240)
async def test_a_card_that_proves_itself_is_not_locked_out_by_its_reset(
    tmp_path: Path, https_ca: ThrowAwayCA, agents: AgentForks
) -> None:
    async with at_portal(tmp_path, agents, https_ca) as runs:
        apdus = await runs.count(RESET)
        middle = apdus[len(apdus) // 2]
        plan = [
            Position(RESET, apdus[0], "after", KILLED),
            Position(RESET, apdus[0], "after", TORN),
            Position(RESET, middle, "after", CUT),
            Position(RESET, middle, "before", KILLED),
        ]
        rows = [await runs.run(at) for at in plan]
    assert [str(row) for row in rows if row.faults] == []
    assert [row.end for row in rows] == [
        "undone, card half done",
        "finished",
        "finished",
        "undone, card half done",
    ]


@pytest.mark.timeout(240)
async def test_a_portal_that_is_late_with_every_other_answer_leaves_no_card_half_done(
    tmp_path: Path, https_ca: ThrowAwayCA, agents: AgentForks, patience: Patience
) -> None:
    async with running_stage(tmp_path, https_ca) as stage:
        desk = ResetDesk(stage, tmp_path, agents)
        await desk.open()
        asked = patience.asked
        patience.late = range(asked + 1, asked + 100, 2)
        assert await desk.run() == ("finished", [])
    assert patience.asked > asked + 6  # as it is taken up, to be reset, with its own key and with its maker's


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "kind",
    independent(0, lambda kind: RESET_COMMAND in kind.yubico and kind.metadata),
    ids=lambda kind: kind.name,
)
async def test_an_independent_card_is_reset_and_encoded_by_the_portal(
    tmp_path: Path, https_ca: ThrowAwayCA, agents: AgentForks, kind: Profile
) -> None:
    """Also one that tells the portal another serial number from then on."""
    async with running_stage(tmp_path, https_ca) as stage:
        desk = ResetDesk(stage, tmp_path, agents)
        desk.kind = kind
        await desk.open()
        for _ in range(2):
            assert await desk.run() == ("finished", [])
            assert (await desk.again()).end == "finished"


@pytest.mark.timeout(240)
async def test_a_position_of_a_batch_that_is_never_reached_is_lost(
    tmp_path: Path, https_ca: ThrowAwayCA, agents: AgentForks
) -> None:
    async with at_portal(tmp_path, agents, https_ca) as runs:
        row = await runs.run(Position("batch, first card", 99, "before", TORN))
    assert row.end == "finished"
    assert [fault.partition(",")[0] for fault in row.faults] == ["the APDU never came"]


def test_positions_are_the_sides_and_modes_of_each_moment() -> None:
    modes = [*MODES, TAKEN, EXCHANGED]
    assert len(positions("batch, first card", range(1, 4), modes, 1)) == 3 * 2 * 4
    assert len(positions("batch, next card", range(4), modes, 1)) == 4 * 2 * 5
    assert {at.mode for at in positions(RESET, range(7, 9), modes, 1)} == set(MODES)
    assert {at.mode for job in JOBS for at in positions(job, range(1, 3), [CUT], 1)} == {CUT}
