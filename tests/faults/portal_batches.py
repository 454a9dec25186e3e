"""*Issue multiple temporary cards* at the real portal: cards of a batch are disturbed, and between two of them.

`JOBS` are the ways in which a card of a batch is produced. Afterwards it is Unassigned, or as it was, or Failed, and
the batch's page says why; the batch's counts say so, too; and *Complete order* or *Repeat production* finishes it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from sqlalchemy import select

from portal.model.states import OrderState, TemporaryCardState
from portal.processes import tasks
from portal.processes.issue_multiple_temporary_cards import IssueMultipleTemporaryCards
from portal.staff.batches import BatchView, PlaceView
from portal.store.tables import Card, ManagedCard, Order
from portal.views import ProcessView
from tests.cards.simulated import PIN, SimulatedCard, factory_key
from tests.faults.portal_desk import Carried, PortalDesk
from tests.faults.portal_disturbance import BETWEEN, EXCHANGED, TAKEN
from tests.faults.tear_jobs import CUT, KILLED, PROFILE, TORN, Answers, Position

MODES: Final = (TORN, TAKEN, KILLED, CUT)
_AGREES: Final[Answers] = [(None, None)] * 3
_COUNT: Final = 2
_UNBLOCK: Final = 0x2C
_READY: Final = TemporaryCardState.UNASSIGNED.value


class Job(NamedTuple):
    """A way in which a card of a batch is produced.

    Attributes:
        next: the card before it is still in the reader.
        begun: it was begun before, and given up.
        another: not that card is put in, but another one.
        modes: how it is disturbed.
    """

    next: bool = False
    begun: bool = False
    another: bool = False
    modes: tuple[str, ...] = MODES


JOBS: Final = {
    "batch, first card": Job(),
    "batch, next card": Job(next=True, modes=(*MODES, EXCHANGED)),
    "batch, card once more": Job(begun=True),
    "batch, another card": Job(begun=True, another=True),
}


class Laid(NamedTuple):
    """A batch on the desk.

    Attributes:
        batch: its id.
        place: the card's that is produced, from 0.
        card: the card that is put in for it.
        made: the one of the place before, where it is in the reader.
        thrown: the one that was begun, where another one takes its place.
    """

    batch: str
    place: int
    card: SimulatedCard
    made: SimulatedCard | None
    thrown: SimulatedCard | None


class BatchDesk(PortalDesk):
    """Batches of two cards, one for each position."""

    async def positions(self, name: str) -> range:
        """The APDUs of a job, undisturbed; and where there is one the moment between two cards."""
        laid, view = await self._laid(JOBS[name])
        carried = await self.carried_out(view, laid.card, _AGREES, made=laid.made)
        assert (carried.end, carried.faults) == ("finished", []), carried
        return range(BETWEEN if JOBS[name].next else BETWEEN + 1, len(carried.apdus) + 1)

    async def run(self, at: Position) -> tuple[str, list[str]]:
        """How a position ended, and what is wrong then."""
        await self.sit_down()
        job = JOBS[at.job]
        laid, view = await self._laid(job)
        was, before = (await self._place(laid)).state, _contents(laid.card)
        kept = laid.made or laid.thrown
        untouched = None if kept is None else _contents(kept)
        carried = await self.carried_out(view, laid.card, _AGREES, at, laid.made)
        faults, end = list(carried.faults), carried.end
        if end != "finished":
            end = f"{end}, {'card half done' if carried.half_done else 'card as it was'}"
            if not carried.half_done and _contents(laid.card) != before:
                faults.append(
                    "it was undone before it said that it changes the card, and the card is changed"
                )
            faults += await self._said(laid, carried, was)
            faults += await self._finished_afresh(laid, job, carried)
        if kept is not None and _contents(kept) != untouched:
            faults.append("a card that was not to be touched is changed")
        return end, faults + await self._as_it_has_to_be(laid, job) + await self._closed(laid)

    # --- a batch

    async def _laid(self, job: Job) -> tuple[Laid, ProcessView]:
        """A batch, and the process of the card of it that is to be disturbed."""
        services, batches = self._stage.kit.services, self._stage.kit.portal.batches
        self.cards = []
        view = await services.start_process(self.olga, IssueMultipleTemporaryCards.name)
        form = {"Label": ["Visitor"], "Count": [str(_COUNT)], "First": ["1"]}
        batch = (await services.next(self.olga, view.id, view.version, form)).batch
        process = await self._view(await batches.complete(self.olga, batch))
        first = self.card_from_its_maker()
        if job.next:
            made = await self.carried_out(process, first, _AGREES)
            assert made.end == "finished", made
            _, following = await batches.go_on(self.olga, process.id)
            return Laid(batch, 1, self.card_from_its_maker(), first, None), await self._view(following)
        if not job.begun:
            return Laid(batch, 0, first, None, None), process
        await self._given_up(process, first)
        card = self.card_from_its_maker() if job.another else first
        laid = Laid(batch, 0, card, None, first if job.another else None)
        return laid, await self._again(laid, "another" if job.another else "same")

    async def _given_up(self, process: ProcessView, card: SimulatedCard) -> None:
        """A card is torn out for good when it has got its PIN."""
        apdus = (await self._undisturbed()).apdus
        number = 1 + [apdu[1] for apdu in apdus].index(_UNBLOCK)
        given_up = await self.carried_out(process, card, _AGREES, Position("", number, "after", TAKEN))
        assert given_up.half_done, given_up

    async def _undisturbed(self) -> Carried:
        """What a first card gets, once for all."""
        if self._first is None:
            services, batches = self._stage.kit.services, self._stage.kit.portal.batches
            view = await services.start_process(self.olga, IssueMultipleTemporaryCards.name)
            form = {"Label": ["Sample"], "Count": ["1"], "First": ["1"]}
            batch = (await services.next(self.olga, view.id, view.version, form)).batch
            process = await self._view(await batches.complete(self.olga, batch))
            self._first = await self.carried_out(process, self.card_from_its_maker(), _AGREES)
            self.cards.pop()
        return self._first

    _first: Carried | None = None

    async def _view(self, process: str | None) -> ProcessView:
        assert process is not None
        return await self._stage.kit.services.process(self.olga, process)

    async def _again(self, laid: Laid, piece: str) -> ProcessView:
        """*Repeat production* of the card."""
        card = (await self._place(laid)).card
        batches = self._stage.kit.portal.batches
        return await self._view(
            await batches.repeat(self.olga, laid.batch, [card], "another" if piece == "another" else "same")
        )

    async def _batch(self, laid: Laid) -> BatchView:
        return await self._stage.kit.portal.batches.one(self.olga, laid.batch)

    async def _place(self, laid: Laid) -> PlaceView:
        return (await self._batch(laid)).places[laid.place]

    # --- the judgement

    async def _said(self, laid: Laid, carried: Carried, was: str) -> list[str]:
        """What the batch's page doesn't say of a card whose order was undone."""
        view, place, faults = await self._batch(laid), await self._place(laid), []
        wanted = TemporaryCardState.FAILED.value if carried.half_done else was
        if place.state != wanted:
            faults.append(f"the card is {place.state}, and not {wanted}")
        if place.making:
            faults.append("the page says that the card is being made")
        if place.problem is None:
            faults.append("the page doesn't say why the card wasn't made")
        return faults + _miscounted(view)

    async def _finished_afresh(self, laid: Laid, job: Job, carried: Carried) -> list[str]:
        """*Complete order*, or *Repeat production* where another card is to take the place still."""
        batches = self._stage.kit.portal.batches
        if job.another and not carried.half_done:
            view = await self._again(laid, "another")
        else:
            view = await self._view(await batches.complete(self.olga, laid.batch))
        if view.target is None or view.target.id != (await self._place(laid)).card:
            return ["Complete order gives out another card"]
        # which card was begun is known by now: the portal isn't asked about the one before it
        made = None if carried.half_done else laid.made
        fresh = await self.carried_out(view, laid.card, _AGREES, made=made)
        return [] if fresh.end == "finished" else [f"a fresh order couldn't finish the card: {fresh.error}"]

    async def _as_it_has_to_be(self, laid: Laid, job: Job) -> list[str]:
        """What is wrong with cards and batch when all that was begun is made."""
        view = await self._batch(laid)
        faults = _miscounted(view)
        ready = [place for place in view.places if place.state == _READY]
        if len(ready) != laid.place + 1:
            faults.append(f"{len(ready)} cards are ready")
        if await self._stage.kit.valid_at_ca():
            faults.append("a certificate is good, and no card has one")
        cards = [card for card in (laid.made, laid.card) if card is not None]
        rows = [await self.row(place.card) for place in ready]
        if [row.guid for row in rows] != [_guid(card) for card in cards]:
            faults.append("the cards haven't the identities of their card objects, each its own")
        for row, card in zip(rows, cards, strict=False):
            faults += await self._wrong(row, card)
        secrets = {(card.puk, *card.keys_by_algorithm.values()) for card in cards}
        if len(secrets) != len(cards):
            faults.append("two cards have the same secrets")
        made = await self._times_made([row.id for row in rows])
        if set(made.values()) != {1}:
            faults.append(f"cards were produced so many times: {made}")
        return faults

    async def _wrong(self, row: Card, card: SimulatedCard) -> list[str]:
        """What is wrong with a card that is ready."""
        faults, keys = [], self._stage.kit.portal.context.keys
        async with self._stage.kit.database.read() as tx:
            managed = await tx.get_one(ManagedCard, row.id)
        if row.sealed_puk is None or bytes(keys.unseal(row.sealed_puk, tasks.puk_label(row.id))) != card.puk:
            faults.append("the portal hasn't the card's PUK")
        if card.pin == PIN.ljust(8, b"\xff"):
            faults.append("the card has its maker's PIN")
        if card.keys_by_algorithm == {each: factory_key(each) for each in card.keys_by_algorithm}:
            faults.append("the card has its maker's management key")
        if (card.pin_left, card.puk_left) != (PROFILE.pin_tries, PROFILE.puk_tries):
            faults.append(f"tries went down to {(card.pin_left, card.puk_left)}")
        if not managed.mutual:
            faults.append("the portal doesn't ask the card to prove itself")
        if card.keys:
            faults.append("the card has a key, and no holder")
        return faults

    async def _times_made(self, cards: list[str]) -> Counter[str | None]:
        """How often each card's production has ended well."""
        query = select(Order.card_id).where(
            Order.card_id.in_(cards), Order.state == OrderState.FINISHED.value
        )
        async with self._stage.kit.database.read() as tx:
            return Counter(await tx.scalars(query))

    async def _closed(self, laid: Laid) -> list[str]:
        """*Complete order* where nothing is left, *Close order* where something is; what is wrong then."""
        batches = self._stage.kit.portal.batches
        left = (await self._batch(laid)).left
        if left:
            await batches.close(self.olga, laid.batch, "no more are needed")
        elif await batches.complete(self.olga, laid.batch) is not None:
            return ["Complete order gives out a card where none is left"]
        view = await self._batch(laid)
        given_up = {TemporaryCardState.ABORTED.value: left} if left else {}
        wanted = {_READY: _COUNT - left} | given_up
        if view.closed_at is None or dict(view.counts) != wanted:
            return [f"the batch is closed with {dict(view.counts)}, and not {wanted}"]
        return []


def _miscounted(view: BatchView) -> list[str]:
    """Where a batch's counts say something else than its cards."""
    states = Counter(place.state for place in view.places)
    failed = states[TemporaryCardState.FAILED.value]
    left = failed + states[TemporaryCardState.REQUESTED.value]
    said = (dict(view.counts), view.left, view.failed)
    return [] if said == (dict(states), left, failed) else [f"the batch says {said} of {dict(states)}"]


def _guid(card: SimulatedCard) -> str:
    return card.objects[0x5FC102][29:45].hex()


def _contents(card: SimulatedCard) -> tuple[object, ...]:
    return dict(card.objects), dict(card.keys), card.pin, card.puk, dict(card.keys_by_algorithm)
