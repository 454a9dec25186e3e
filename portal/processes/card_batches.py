"""Batches of temporary cards: what is in one, which card comes next, and its end.

Every card of a batch is a card object from the beginning, and always the same one. Each is produced by a process and an
order of its own (``produce_temporary_card``): what is left is what the cards' states say, whoever asks and whenever.

Everything here runs in the caller's transaction.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypedDict

from sqlalchemy import func, select

from portal.errors import NotFound
from portal.model.graphs import Why
from portal.model.objects import ObjectKind
from portal.model.states import OrderState, TemporaryCardState
from portal.store import audit
from portal.store.tables import Card, CardBatch, CardBatchPosition, Order
from portal.store.transitions import StateChange, change_state
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.store.tables import User

KIND: Final = "card_batch"
"""The kind of object that the audit log names."""
BATCH: Final = "batch"
"""Process variable: id of the batch that a process has ordered."""
RUN: Final = "batch_run"
"""Process variable of a card's production: the run that it belongs to (``Run``)."""
MOST: Final = 200
"""Cards of one batch."""
RESERVED_SECONDS: Final = 300
"""For so long a card that somebody has begun to produce is given to nobody else; as long as a typed code is good."""
OPEN_STATES: Final = frozenset({TemporaryCardState.REQUESTED.value, TemporaryCardState.FAILED.value})
"""Of cards that aren't produced yet."""
REPEATABLE: Final = OPEN_STATES | {TemporaryCardState.UNASSIGNED.value}
"""Of cards that can be produced, or produced again."""
_UNDER_WAY: Final = (OrderState.RUNNING.value, OrderState.FINISHING.value)
_FINAL: Final = {
    TemporaryCardState.REQUESTED.value: (TemporaryCardState.ABORTED, Why.ABORTED),
    TemporaryCardState.FAILED.value: (TemporaryCardState.LOCKED, Why.LOCKED),
}
"""What becomes of a card that isn't produced when its batch is closed; one that was begun is locked (its table)."""


class Run(TypedDict):
    """Cards of a batch that one operator produces one after the other; kept with the process of each.

    Attributes:
        batch: id of the batch.
        left: ids of the cards that were chosen, without those that are done; None: all that aren't produced yet.
        piece: which card is put in, as ``produce_temporary_card.PIECE`` says it.
        tried: ids of the cards that were tried, where none were chosen: a run comes to each once.
        goes_on: a card of the run was produced before: the page opens Inlay by itself where it can.
    """

    batch: str
    left: list[str] | None
    piece: Literal["same", "another"]
    tried: list[str]
    goes_on: bool


class Place(NamedTuple):
    """A card of a batch and its place."""

    position: CardBatchPosition
    card: Card


def _leave(_card: Card) -> None:
    """Every card of the batch is one of the built-in kind."""


async def order(
    tx: AsyncSession,
    actor: User,
    label: str,
    first: int,
    count: int,
    now: int,
    assign: Callable[[Card], None] = _leave,
) -> CardBatch:
    """Order a batch: its cards are Requested at once, each with a number behind the batch's name.

    Args:
        tx: a writing transaction.
        actor: who orders it, and has the cards.
        label: of the batch.
        first: number of the first card.
        count: how many.
        now: time.
        assign: says of a card what kind it is of.
    """
    batch = CardBatch(id=secrets.token_hex(16), label=label, ordered_by=actor.id, created_at=now)
    tx.add(batch)
    await tx.flush()
    made = [_requested(actor, f"{label} {first + at}", now) for at in range(count)]
    for card in made:
        assign(card)
    tx.add_all(made)
    await tx.flush()
    tx.add_all(
        CardBatchPosition(batch_id=batch.id, number=at, card_id=card.id) for at, card in enumerate(made, 1)
    )
    await note(tx, batch, actor.email, "batch.ordered", now, label=label, cards=count)
    for card in made:
        await audit.record(
            tx,
            at=now,
            actor=actor.email,
            action="card.registered",
            kind=card.kind,
            object_id=card.id,
            batch=batch.id,
        )
    return batch


async def find(tx: AsyncSession, batch_id: str, *, lock: bool = False) -> CardBatch:
    """A batch; locked, its cards are given out one at a time.

    Raises:
        NotFound: there is none.
    """
    query = select(CardBatch).where(CardBatch.id == batch_id).execution_options(populate_existing=True)
    batch = (await tx.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if batch is None:
        raise NotFound(KIND)
    return batch


async def places(tx: AsyncSession, batch_id: str) -> Sequence[Place]:
    """The cards of a batch, in their order."""
    query = (
        select(CardBatchPosition, Card)
        .join(Card, Card.id == CardBatchPosition.card_id)
        .where(CardBatchPosition.batch_id == batch_id)
        .order_by(CardBatchPosition.number)
        .execution_options(populate_existing=True)
    )
    return [Place(position, card) for position, card in await tx.execute(query)]


async def counts(tx: AsyncSession, batch_ids: Iterable[str]) -> dict[str, dict[str, int]]:
    """How many cards of each batch are in which state."""
    query = (
        select(CardBatchPosition.batch_id, Card.state, func.count())
        .join(Card, Card.id == CardBatchPosition.card_id)
        .where(CardBatchPosition.batch_id.in_(list(batch_ids)))
        .group_by(CardBatchPosition.batch_id, Card.state)
    )
    found: dict[str, dict[str, int]] = {}
    for batch_id, state, number in await tx.execute(query):
        found.setdefault(batch_id, {})[state] = number
    return found


async def under_way(tx: AsyncSession, card_ids: Iterable[str]) -> frozenset[str]:
    """The cards of which an order is being carried out."""
    query = select(Order.card_id).where(Order.card_id.in_(list(card_ids)), Order.state.in_(_UNDER_WAY))
    return frozenset(card for card in await tx.scalars(query) if card is not None)


async def take(tx: AsyncSession, batch: CardBatch, actor: User, run: Run, now: int) -> Place | None:
    """Give out the next card that is to be produced; for a while nobody else gets it.

    Args:
        tx: a writing transaction that has the batch locked.
        batch: the batch.
        actor: who gets it.
        run: which cards it may be.
        now: time.

    Returns:
        None: nothing is left that others aren't working on.
    """
    there = await places(tx, batch.id)
    busy = await under_way(tx, (place.card.id for place in there))
    for place in there:
        position, card = place
        mine = position.taken_by == actor.id
        reserved = position.taken_by is not None and (position.taken_at or 0) > now - RESERVED_SECONDS
        if _is_wanted(card, run) and (mine or not (reserved or card.id in busy)):
            position.taken_by, position.taken_at = actor.id, now
            return place
    return None


def _is_wanted(card: Card, run: Run) -> bool:
    if run["left"] is None:
        return card.state in OPEN_STATES and card.id not in run["tried"]
    return card.state in REPEATABLE and card.id in run["left"]


async def close(tx: AsyncSession, batch: CardBatch, actor: User, reason: str, now: int) -> None:
    """Close a batch: what isn't produced comes to its end.

    Args:
        tx: a writing transaction that has the batch locked.
        batch: the batch.
        actor: who closes it.
        reason: why cards are given up; empty where all are produced.
        now: time.

    Raises:
        InlayError: ``batch_busy``: a card of it is just being produced.
    """
    open_before = [place.card for place in await places(tx, batch.id) if place.card.state in OPEN_STATES]
    for card in open_before:  # one may have been made since
        await tx.refresh(card, with_for_update=True)
    left = [card for card in open_before if card.state in OPEN_STATES]
    busy = await under_way(tx, (card.id for card in left))
    for card in left:
        if card.id in busy:
            raise InlayError("batch_busy", label=card.label)
    for card in left:
        state, why = _FINAL[card.state]
        await change_state(tx, card, state, StateChange(actor.email, now, why, reason), batch=batch.id)
    batch.closed_by, batch.closed_at = actor.id, now
    await note(tx, batch, actor.email, "batch.closed", now, given_up=[card.id for card in left])


async def note(
    tx: AsyncSession, batch: CardBatch, actor: str, action: str, now: int, **details: str | int | list[str]
) -> None:
    """Keep in the audit log what was done with a batch."""
    await audit.record(tx, at=now, actor=actor, action=action, kind=KIND, object_id=batch.id, **details)


def _requested(actor: User, label: str, now: int) -> Card:
    return Card(
        id=secrets.token_hex(16),
        kind=ObjectKind.TEMPORARY_CARD.value,
        owner_id=actor.id,
        label=label,
        serial="",  # the card tells it when it is produced
        guid=secrets.token_hex(16),
        state=TemporaryCardState.REQUESTED.value,
        storage="card",
        attested=False,
        valid_until=now,
        created_at=now,
        changed_at=now,
    )
