"""What the operator's pages may ask for about batches of temporary cards. Every call checks role and account itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import select

from portal.errors import FieldErrors, WrongState
from portal.model.objects import ObjectKind
from portal.model.states import OrderState, ProcessState, Role
from portal.processes import card_batches, order_rows
from portal.processes.definition import OPEN
from portal.processes.endings import DETAILS
from portal.processes.produce_temporary_card import NOTE, OTHER, PIECE, SAME, ProduceTemporaryCard
from portal.processes.temporary_cards import REASON_FORM
from portal.staff.access import require
from portal.store.tables import CardBatch, Order, Process, User
from portal.views import ObjectRef
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.card_batches import Place, Run
    from portal.processes.context import Context
    from portal.processes.engine import Engine, Instance
    from portal.views import Session
    from protocol.messages import PageError

MOST_LISTED: Final = 100
Piece = Literal["same", "another"]


@dataclass(frozen=True, slots=True)
class PlaceView:
    """One card of a batch.

    Attributes:
        number: its place, from 1.
        problem: why it wasn't made when it was tried last; None: it was, or it wasn't tried.
        making: an order of it is being carried out.
        taken_by: who began to produce it last, while others aren't given it.
    """

    number: int
    card: str
    label: str
    serial: str
    state: str
    problem: PageError | None
    making: bool
    taken_by: str


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch.

    Attributes:
        counts: state of its cards to how many are in it.
        left: how many aren't produced yet.
        failed: how many of them were begun and failed.
    """

    id: str
    label: str
    ordered_by: str
    created_at: int
    closed_by: str
    closed_at: int | None
    counts: Mapping[str, int]
    left: int
    failed: int
    places: Sequence[PlaceView] = ()


class Batches:
    """Lists batches, gives out their cards one after the other, closes them."""

    def __init__(self, context: Context, engine: Engine) -> None:
        self._context, self._engine = context, engine

    async def all(self, session: Session) -> Sequence[BatchView]:
        """The newest batches; those that are open come first.

        Raises:
            Forbidden: not an operator.
            InlayError: ``user_not_active``.
        """
        require(session, Role.OPERATOR)
        async with self._context.database.read() as tx:
            newest = select(CardBatch).order_by(
                CardBatch.closed_at.is_not(None), CardBatch.created_at.desc(), CardBatch.id
            )
            found = list(await tx.scalars(newest.limit(MOST_LISTED)))
            states = await card_batches.counts(tx, (batch.id for batch in found))
            return [await _view(tx, batch, states.get(batch.id, {})) for batch in found]

    async def one(self, session: Session, batch_id: str) -> BatchView:
        """A batch with its cards.

        Raises:
            Forbidden: not an operator.
            NotFound: no such batch.
            InlayError: ``user_not_active``.
        """
        require(session, Role.OPERATOR)
        async with self._context.database.read() as tx:
            batch = await card_batches.find(tx, batch_id)
            states = await card_batches.counts(tx, (batch_id,))
            there = await card_batches.places(tx, batch_id)
            shown = await self._places(tx, there)
            return await _view(tx, batch, states.get(batch_id, {}), shown)

    async def complete(self, session: Session, batch_id: str) -> str | None:
        """*Complete order*: go on with what isn't produced yet; a batch of which all is produced is closed.

        Returns:
            Id of the process of the next card; None: there is none that somebody else isn't working on.

        Raises:
            Forbidden: not an operator.
            NotFound: no such batch.
            WrongState: the card's state is another one by now.
            InlayError: ``batch_closed``, ``user_not_active``, or the process's own cause.
        """
        if not (await self.one(session, batch_id)).left:
            await self.close(session, batch_id, "")
            return None
        return await self._produce(session, _run(batch_id))

    async def repeat(self, session: Session, batch_id: str, cards: Sequence[str], piece: Piece) -> str | None:
        """*Repeat production*: of these cards of a batch, one after the other.

        Args:
            session: who asks.
            batch_id: the batch.
            cards: ids of its cards that are Requested, Failed or Unassigned; others are left out.
            piece: ``same``: the cards that were begun are put in again; ``another``: blank ones take their place.

        Returns:
            As `complete`.

        Raises:
            FieldErrors: no card is chosen, under ``card``.
            Forbidden, NotFound, WrongState, InlayError: as `complete`.
        """
        require(session, Role.OPERATOR)
        if not cards:
            raise FieldErrors({"card": "Choose at least one card."})
        return await self._produce(session, _run(batch_id, list(cards), piece))

    async def go_on(self, session: Session, process_id: str) -> tuple[str, str | None]:
        """From a card that is produced, or that failed, to the next one of the run.

        Returns:
            The batch's id, and the next process's; None: the run has come to its end.

        Raises:
            NotFound: no such process, or it belongs to no run.
            Forbidden, WrongState, InlayError: as `complete`; ``WrongState``: its order is still being carried out.
        """
        require(session, Role.OPERATOR)
        process = (await self._engine.find(session, process_id)).process
        run: Run | None = process.variables.get(card_batches.RUN)
        card = process.target_id
        if run is None or card is None or process.user_id != session.user.id:
            raise WrongState("process", process.step, (DETAILS,))
        if process.state == ProcessState.RUNNING:
            if process.step != DETAILS:
                raise WrongState("process", process.step, (DETAILS,))
            await self._engine.next(session, process.id, process.version)
        left = None if run["left"] is None else [each for each in run["left"] if each != card]
        after: Run = {**run, "left": left, "tried": [*run["tried"], card], "goes_on": True}
        return run["batch"], await self._produce(session, after)

    async def close(self, session: Session, batch_id: str, reason: str) -> None:
        """Close a batch. With cards that aren't produced a reason is needed: they are Aborted, or Locked when begun.

        Raises:
            FieldErrors: the reason, under ``Reason``.
            Forbidden: not an operator.
            NotFound: no such batch.
            InlayError: ``batch_closed``, ``batch_busy``, ``user_not_active``.
        """
        require(session, Role.OPERATOR)
        async with self._context.database.write() as tx:
            batch = await card_batches.find(tx, batch_id, lock=True)
            _check_open(batch)
            states = await card_batches.counts(tx, (batch_id,))
            if card_batches.OPEN_STATES & states.get(batch_id, {}).keys():
                REASON_FORM.parse({"Reason": [reason]})
            actor = await tx.get_one(User, session.user.id)
            await card_batches.close(tx, batch, actor, reason.strip(), self._context.clock())

    async def _produce(self, session: Session, run: Run) -> str | None:
        """Start the process of the next card of a run, at its order; None where nothing is left."""
        require(session, Role.OPERATOR)
        async with self._context.database.write() as tx:
            batch = await card_batches.find(tx, run["batch"], lock=True)
            actor = await tx.get_one(User, session.user.id)
            _check_open(batch)
            place = await card_batches.take(tx, batch, actor, run, self._context.clock())
            if place is None:
                return None
            size = len(await card_batches.places(tx, batch.id))
        ref = ObjectRef(ObjectKind.TEMPORARY_CARD.value, place.card.id)
        return await self._begin(session, ref, run, f"{place.position.number} of {size}")

    async def _begin(self, session: Session, ref: ObjectRef, run: Run, where: str) -> str:
        """The card's process, at its order; one that waits for Inlay already is taken up."""
        instance = await self._engine.start(session, ProduceTemporaryCard.name, ref)
        if await self._ended(session, instance, run):
            instance = await self._engine.start(session, ProduceTemporaryCard.name, ref)
        process_id = instance.process.id
        async with self._context.database.write() as tx:
            process = await tx.get_one(Process, process_id, with_for_update=True)
            process.variables = {**process.variables, card_batches.RUN: dict(run), NOTE: where}
            await tx.flush()
            step, version = process.step, process.version
        if step != OPEN:
            await self._engine.next(session, process_id, version, {PIECE.name: [run["piece"]]})
        return process_id

    async def _ended(self, session: Session, instance: Instance, run: Run) -> bool:
        """End a process of before whose card is done, or that waits for another one than the run puts in."""
        _, process, order = instance
        if process.step == DETAILS:
            await self._engine.next(session, process.id, process.version)
            return True
        waits = order is not None and order.state == OrderState.WAITING
        if waits and process.variables[PIECE.name] != run["piece"]:
            await self._engine.cancel(session, process.id)
            return True
        return False

    async def _places(self, tx: AsyncSession, there: Sequence[Place]) -> list[PlaceView]:
        ids = [place.card.id for place in there]
        busy, last = await card_batches.under_way(tx, ids), await _last_processes(tx, ids)
        since = self._context.clock() - card_batches.RESERVED_SECONDS
        orders = await _orders(tx, last.values())
        found = []
        for position, card in there:
            process = last.get(card.id)
            open_still = card.state in card_batches.OPEN_STATES
            error = None if process is None or not open_still else order_rows.from_json(process.error)
            making = card.id in busy
            reserved = making or (open_still and (position.taken_at or 0) > since)
            taker = position.taken_by if reserved else None
            found.append(
                PlaceView(
                    position.number,
                    card.id,
                    card.label,
                    card.serial,
                    card.state,
                    order_rows.page_error(error, orders.get(process.id) if process is not None else None),
                    making,
                    "" if taker is None else (await tx.get_one(User, taker)).email,
                )
            )
        return found


def _run(batch_id: str, left: list[str] | None = None, piece: Piece = SAME) -> Run:
    return {"batch": batch_id, "left": left, "piece": piece, "tried": [], "goes_on": False}


def is_piece(text: str) -> Piece:
    """Which card is put in, as a form sends it."""
    return "another" if text == OTHER else "same"


async def _view(
    tx: AsyncSession, batch: CardBatch, counts: Mapping[str, int], shown: Sequence[PlaceView] = ()
) -> BatchView:
    ordered_by = await tx.get_one(User, batch.ordered_by)
    closed_by = None if batch.closed_by is None else await tx.get_one(User, batch.closed_by)
    return BatchView(
        id=batch.id,
        label=batch.label,
        ordered_by=ordered_by.email,
        created_at=batch.created_at,
        closed_by="" if closed_by is None else closed_by.email,
        closed_at=batch.closed_at,
        counts=counts,
        left=sum(number for state, number in counts.items() if state in card_batches.OPEN_STATES),
        failed=counts.get("Failed", 0),
        places=shown,
    )


async def _last_processes(tx: AsyncSession, cards: Sequence[str]) -> dict[str, Process]:
    """The newest process by which each card was to be produced."""
    query = select(Process).where(Process.target_id.in_(cards), Process.name == ProduceTemporaryCard.name)
    newest = await tx.scalars(query.order_by(Process.created_at, Process.changed_at))
    return {process.target_id: process for process in newest if process.target_id is not None}


async def _orders(tx: AsyncSession, processes: Iterable[Process]) -> dict[str, Order]:
    """The order of each process that has one."""
    query = select(Order).where(Order.process_id.in_([process.id for process in processes]))
    return {order.process_id: order for order in await tx.scalars(query)}


def _check_open(batch: CardBatch) -> None:
    if batch.closed_at is not None:
        raise InlayError("batch_closed")
