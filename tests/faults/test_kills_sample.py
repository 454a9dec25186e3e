"""Some of the moments of `make kills`: each victim, on both sides of boundaries where much is at stake."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import judge
from tests.faults.errands import CREATE, ERRANDS
from tests.faults.moments import Kills, Moment, Row, summary, uniform
from tests.faults.plan import Boundary
from tests.faults.scene import Scene
from tests.support.daemon_process import PIN
from tests.support.pcscd import PrivatePcscd

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

SEED = 20
MOMENTS = [
    Moment("agent", Boundary("agent", "begin", 1, "before")),
    Moment("agent", Boundary("agent", "step make after", 1, "before")),
    Moment("agent", Boundary("agent", "store_sent receipted", 1, "after")),
    Moment("portal", Boundary("portal", "Claims.claim", 1, "after")),
    Moment("portal", Boundary("portal", "BuiltinCa.issue", 1, "after")),
    Moment("window", Boundary("agent", "store_sent requested", 1, "after")),
    Moment("pcscd", Boundary("agent", "step show before", 1, "after")),
    Moment("agent", Boundary("agent", "store_sent requested", 1, "after"), again=0.2),
]

ABOUT_A_CARD = {
    "change-pin": [
        Moment("agent", Boundary("agent", "step change pin before", 1, "after")),
        Moment("agent", Boundary("agent", "store_sent receipted", 1, "before")),
    ],
    "delete": [
        Moment("agent", Boundary("agent", "step delete before", 1, "after")),
        Moment("portal", Boundary("agent", "store_sent receipted", 1, "after")),
    ],
}


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory, pcscd: PrivatePcscd) -> Iterator[Kills]:
    """The processes, and a first order without a kill."""
    with Scene(tmp_path_factory.mktemp("kills"), screen=True, pcscd=pcscd) as scene:
        yield Kills(scene)


def test_a_certificate_without_its_card_is_seen(kills: Kills) -> None:
    """The comparison is worth something: a card taken away by hand is missed."""
    with kills.scene.desk() as desk:
        _, end = kills.order(desk, None, window=False)
        assert end == judge.FINISHED
        assert kills.faults(desk, end) == []
        proved = judge.proved_on(desk, PIN)
        [card] = desk.agent.card_files()
        card.unlink()
        assert any("0 proved" in fault for fault in kills.faults(desk, end))
        assert judge.left_over(kills.scene, set()) == [f"{len(proved)} valid certificates without a card"]
        assert judge.left_over(kills.scene, proved | {b"another"}) == ["1 cards' certificates aren't valid"]
    kills.scene.leave()


def test_nothing_is_lost(kills: Kills) -> None:
    """Every order is finished, undone or was never begun, soon after what was killed runs again."""
    moments = MOMENTS + uniform(SEED, 1, ("agent", "portal"))
    rows: list[Row] = list(kills.run(moments))
    table = "\n".join(map(str, rows))
    left_over = kills.left_over()
    assert summary(rows, left_over) == f"kills: {len(moments)} moments, 0 lost", (
        f"seed {SEED}\n{table}\n{left_over}"
    )


@pytest.mark.parametrize("errand", ABOUT_A_CARD)
def test_a_card_has_one_pin_and_goes_on_both_sides(errand: str, kills: Kills) -> None:
    """Orders about a card that is there, around their points of no return."""
    moments = ABOUT_A_CARD[errand]
    kills.scene.errand = ERRANDS[errand]
    try:
        rows = list(kills.run(moments))
    finally:
        kills.scene.errand = CREATE
    table = "\n".join(map(str, rows))
    left_over = kills.left_over()
    assert summary(rows, left_over) == f"kills: {len(moments)} moments, 0 lost", f"{table}\n{left_over}"
