"""`tests.faults.kills` for a card of a batch: an operator, a physical card behind pcscd, and the batch's own judgement.

The card is in a slot of vpcd, so pcscd isn't killed here; nor is a window, for the operator is at a terminal.
"""

from __future__ import annotations

import contextlib
import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.pcsc import scard
from bench.page import PortalPages
from protocol.errors import InlayError
from tests.cards.simulated import PIN, SimulatedCard, factory_key
from tests.faults import judge
from tests.faults.errands import BATCH
from tests.faults.hands import AtTerminal
from tests.faults.moments import Kills
from tests.faults.scene import Scene, ask
from tests.faults.tear_jobs import PROFILE
from tests.support.processes import wait_until
from tests.support.wired_card import WiredCard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.hands import Hands
    from tests.faults.scene import Desk
    from tests.support.pcscd import PrivatePcscd

VICTIMS: Final = ("agent", "portal")
_COUNT: Final = 2
_BATCH: Final = re.compile(r'action="/operator/batches/([0-9a-f]{32})/complete"')
_NOTHING_HAPPENED: Final = 'data-label="What happened">\N{EN DASH}<'
_CARD_SECONDS: Final = 60.0


class BatchPages(PortalPages):
    """An operator's session."""

    def order(self) -> str:
        """*Issue multiple temporary cards*: the batch's id."""
        text = self._post("/processes", {"name": BATCH.process})
        path, fields = self._first_step(text)
        text = self._post(path, {**fields, "Label": "Visitor", "Count": str(_COUNT), "First": "1"})
        found = _BATCH.search(text)
        assert found is not None, text
        return found[1]

    def complete(self, batch: str) -> str:
        """*Complete order*: the link for the next card."""
        return self._to_link(self._post(f"/operator/batches/{batch}/complete", {}))

    def of_batch(self, batch: str) -> str:
        """What the batch's page says."""
        return html.unescape(self._get(f"/operator/batches/{batch}"))


class BatchScene(Scene):
    """A batch for each desk, and a card from its maker in the reader."""

    def __init__(self, folder: Path, *, pcscd: PrivatePcscd | None = None) -> None:
        """See `Scene`."""
        super().__init__(folder, screen=False, pcscd=pcscd, errand=BATCH, roles=("operator", "self-service"))
        self.batch = ""
        self.card = SimulatedCard(PROFILE)

    @contextlib.contextmanager
    def desk(self) -> Iterator[Desk]:
        """A new desk, a batch, and a card."""
        self.batch, self.card = "", SimulatedCard(PROFILE)
        made = int(ask(self.site.portal.database, "SELECT count(*) FROM card_batches")[0][0])
        self.card.serial = (0x01020304 + made).to_bytes(4, "big")
        with super().desk() as desk, WiredCard.simulated(self.pcscd.vpcd_port, self.card):
            wait_until(lambda: present() == 1, "the card", seconds=_CARD_SECONDS)
            yield desk
        wait_until(lambda: present() == 0, "an empty reader", seconds=_CARD_SECONDS)

    def link(self) -> str:
        """A link to click, for the next card of the desk's batch."""
        pages = self.session(BatchPages)
        if not self.batch:
            self.batch = pages.order()
        return pages.complete(self.batch)

    def hands(self, desk: Desk, link: str, *, window: bool) -> Hands:
        """The operator's hands."""
        return AtTerminal(desk.agent, self.pages, link, BATCH)

    def page(self) -> str:
        """What the batch's page says."""
        return self.session(BatchPages).of_batch(self.batch)

    def places(self) -> list[tuple[str, str, str]]:
        """Id, state and GUID of each card of the batch."""
        query = (
            "SELECT cards.id, cards.state, cards.guid FROM cards JOIN card_batch_positions ON card_id = cards.id"
            " WHERE batch_id = ? ORDER BY number"
        )
        return [(str(card), str(state), str(guid)) for card, state, guid in self._ask(query, self.batch)]

    def order_of(self, jti: str) -> tuple[str, bool]:
        """Which card an order is for, and whether the agent has said that it changes it."""
        [(card, changing)] = self._ask("SELECT card_id, changing_at FROM orders WHERE jti = ?", jti)
        return str(card), changing is not None

    def times_made(self) -> list[int]:
        """How often each card's production has ended well."""
        query = "SELECT count(*) FROM orders WHERE card_id = ? AND state = 'finished'"
        return [int(self._ask(query, card)[0][0]) for card, _, _ in self.places()]

    def _ask(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        return ask(self.site.portal.database, query, *values)


class BatchKills(Kills):
    """Moments in the production of a batch's first card."""

    def __init__(self, scene: BatchScene) -> None:
        super().__init__(scene)
        self.batch_scene = scene

    def fits(self, end: str) -> bool:
        """Whether other programs see the card, as it is with this end."""
        try:
            return present() == 1
        except InlayError:  # no PC/SC service yet
            return False

    def faults(self, desk: Desk, end: str) -> list[str]:
        """What contradicts an order's end in card, batch and page; and what a fresh order doesn't finish."""
        scene = self.batch_scene
        jti, _ = scene.order()
        card, changing = scene.order_of(jti)
        places, page = scene.places(), scene.page()
        wanted = "Unassigned" if end == judge.FINISHED else "Failed" if changing else "Requested"
        found = []
        if [state for _, state, _ in places] != [wanted, "Requested"] or places[0][0] != card:
            found.append(f"the first card has to be {wanted}: {places}")
        counted = "2 Requested" if wanted == "Requested" else f"1 {wanted}"
        found += [] if counted in page else [f"the page doesn't count {counted}"]
        if end == judge.UNDONE and page.count(_NOTHING_HAPPENED) > _COUNT - 1:
            found.append("the page doesn't say why the card wasn't made")
        if end != judge.FINISHED:
            patience, fresh = self.order(desk, None, window=False)
            if fresh != judge.FINISHED:
                return [*found, f"after {patience.seconds:.0f} s a fresh order isn't finished: {fresh}"]
        return found + self._made()

    def left_over(self) -> list[str]:
        """What contradicts the CA's own list after all moments: no card of a batch has a certificate."""
        issued = [each for each in self.scene.issued() if not each.revoked]
        return [f"{len(issued)} valid certificates without a card"] if issued else []

    def _made(self) -> list[str]:
        """What is wrong with a card that is made, and with the batch that has another one to come."""
        scene, card, found = self.batch_scene, self.batch_scene.card, []
        places = scene.places()
        if [state for _, state, _ in places] != ["Unassigned", "Requested"] or scene.times_made() != [1, 0]:
            found.append(f"made {scene.times_made()}: {places}")
        if card.objects[0x5FC102][29:45].hex() != places[0][2]:
            found.append("the card hasn't the identity of its card object")
        if (card.pin_left, card.puk_left) != (PROFILE.pin_tries, PROFILE.puk_tries):
            found.append(f"tries went down to {(card.pin_left, card.puk_left)}")
        if card.pin == PIN.ljust(8, b"\xff") or card.keys_by_algorithm == {
            each: factory_key(each) for each in card.keys_by_algorithm
        }:
            found.append("the card has its maker's PIN or management key")
        scene.leave()
        scene.link()
        following, _ = scene.order_of(scene.order()[0])
        if following != places[1][0]:
            found.append("Complete order doesn't give out the card that is left")
        return found


def present() -> int:
    """How many readers have a card, as other programs see it."""
    return sum(reader.present for reader in scard.list_readers())
