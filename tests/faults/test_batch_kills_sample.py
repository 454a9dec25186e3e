"""Some of the moments of ``make kills KILLS="--errand batch"``: a card of a batch is made once, whoever is killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import judge, moments
from tests.faults.batch_kills import BatchKills, BatchScene
from tests.faults.moments import Moment, Row, summary
from tests.faults.plan import Boundary
from tests.support.pcscd import PrivatePcscd

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

MOMENTS = [
    Moment("portal", Boundary("portal", "Claims.claim", 1, "after")),
    Moment("agent", Boundary("agent", "store_sent receipted", 1, "before")),
    Moment("portal", Boundary("portal", "Incoming._receipt", 1, "before")),
]


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory, pcscd: PrivatePcscd) -> Iterator[BatchKills]:
    """The processes."""
    with BatchScene(tmp_path_factory.mktemp("kills"), pcscd=pcscd) as scene:
        yield BatchKills(scene)


def test_a_card_that_is_made_by_nobody_is_seen(kills: BatchKills, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is worth something: a card with another identity than its object's is missed."""
    with kills.scene.desk() as desk:
        _, end = kills.order(desk, None, window=False)
        assert end == judge.FINISHED
        kills.batch_scene.card.objects[0x5FC102] = bytes(60)
        assert kills.faults(desk, end) == ["the card hasn't the identity of its card object"]
        monkeypatch.setattr(moments, "END_SECONDS", 1.0)  # the fresh order of a card that is made never ends
        assert any("has to be Requested" in fault for fault in kills.faults(desk, judge.UNDONE))
    kills.scene.leave()


def test_each_card_is_made_once(kills: BatchKills) -> None:
    rows: list[Row] = list(kills.run(MOMENTS))
    table = "\n".join(map(str, rows))
    left_over = kills.left_over()
    assert summary(rows, left_over) == f"kills: {len(MOMENTS)} moments, 0 lost", f"{table}\n{left_over}"
