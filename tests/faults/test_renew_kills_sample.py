"""Some of the moments of `make kills KILLS="--errand renew"`: around the copy, the receipt and the taking on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.errands import ERRANDS
from tests.faults.moments import Kills, Moment, summary
from tests.faults.plan import Boundary
from tests.faults.scene import Scene

if TYPE_CHECKING:
    from tests.support.pcscd import PrivatePcscd

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

MOMENTS = [
    Moment("agent", Boundary("agent", "step generate 9A after", 1, "after")),
    Moment("agent", Boundary("agent", "store_sent receipted", 1, "after")),
    Moment("agent", Boundary("agent", "step take on after", 1, "before")),
]


def test_a_card_that_is_renewed_is_the_old_one_or_the_new_one(
    tmp_path_factory: pytest.TempPathFactory, pcscd: PrivatePcscd
) -> None:
    """Killed before the receipt: undone, and what it was. Killed afterwards: finished, by itself."""
    folder = tmp_path_factory.mktemp("renew-kills")
    with Scene(folder, screen=False, pcscd=pcscd, errand=ERRANDS["renew"]) as scene:
        kills = Kills(scene)
        rows = list(kills.run(MOMENTS))
        left_over = kills.left_over()
    table = "\n".join(map(str, rows))
    assert summary(rows, left_over) == f"kills: {len(MOMENTS)} moments, 0 lost", f"{table}\n{left_over}"
    assert [row.end for row in rows] == ["undone", "finished", "finished"]
