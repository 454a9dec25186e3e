"""What was left half done: found at start and when its time is over, asked at the CA, undone or finished.

Three things can be left: an order whose device is away for too long; a certificate in Issued whose order has ended; an
intent whose answer never came, behind which the CA may have issued a certificate that nobody has.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from sqlalchemy import func, or_, select

from portal.ca.authority import CaError, Reason
from portal.errors import WrongState
from portal.events import DEADLINES
from portal.model.states import OrderState
from portal.processes import certificates, endings, order_rows
from portal.store import audit
from portal.store.tables import CaIntent, Certificate, Order, Revocation
from protocol.errors import InlayError
from protocol.traces import describe

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from portal.processes.context import Context
    from portal.processes.incoming import Incoming
    from portal.processes.issuing import Issuing

_LOG: Final = logging.getLogger(__name__)
_ENDED = (OrderState.UNDOING.value, OrderState.UNDONE.value, OrderState.FINISHED.value)
_OPEN = (OrderState.RUNNING.value, OrderState.UNDOING.value)
_GIVE_UP_AFTER = 86_400
"""Seconds after which an intent that the CA knows nothing of is given up; until then it is asked again."""
_ASK_AGAIN = 300
_Found = Literal["recovered", "open", "unanswered"]


class Report(NamedTuple):
    """What a run found.

    Attributes:
        finished: orders that had won and are finished now.
        undone: orders that took too long.
        recovered: certificates that only the CA knew of.
        revocations: certificates in Issued that are to be revoked now.
        open: intents behind which the CA has no certificate so far; it is asked again for a day.
        unanswered: intents that the CA couldn't be asked for.
    """

    finished: int
    undone: int
    recovered: int
    revocations: int
    open: int
    unanswered: int


class Reconciler:
    """Finds and handles what was left half done."""

    topic = DEADLINES

    def __init__(self, context: Context, incoming: Incoming, issuing: Issuing) -> None:
        self._context = context
        self._incoming = incoming
        self._issuing = issuing

    async def next_due(self) -> int | None:
        """When the next order's time is over, or an open intent is asked for again."""
        async with self._context.database.read() as tx:
            order: int | None = await tx.scalar(select(func.min(Order.deadline_at)))
            asked: int | None = await tx.scalar(select(func.min(CaIntent.changed_at)).where(*self._orphans()))
        due = [time for time in (order, None if asked is None else asked + _ASK_AGAIN) if time is not None]
        return min(due, default=None)

    async def run_due(self) -> None:
        """Undo what took too long and look after what it left."""
        await self.run()

    async def run(self) -> Report:
        """Look for everything that was left half done, and handle it."""
        undone = await self._undo_late()
        found = await self._ask_for_orphans()
        revocations = await self._revoke_left_in_issued()
        finished = await self._finish_winners()  # last: one that can't be finished keeps nothing else waiting
        return Report(finished, undone, found["recovered"], revocations, found["open"], found["unanswered"])

    async def _finish_winners(self) -> int:
        query = select(Order.jti).where(Order.state == OrderState.FINISHING.value)
        async with self._context.database.read() as tx:
            winners = list(await tx.scalars(query))
        failure: Exception | None = None
        for jti in winners:
            try:
                await self._incoming.finish(jti)
            except Exception as cause:
                _LOG.error("order %s could not be finished: %s", jti, describe(cause))
                failure = cause
        if failure is not None:
            raise failure  # the alarm tries again, when everything else was done
        return len(winners)

    async def _undo_late(self) -> int:
        query = select(Order.jti).where(Order.state.in_(_OPEN), Order.deadline_at <= self._context.clock())
        async with self._context.database.read() as tx:
            late = list(await tx.scalars(query))
        for jti in late:
            async with self._context.database.write() as tx:
                order = await order_rows.load(tx, jti)
                if order.deadline_at is None or order.deadline_at > self._context.clock():
                    continue
                try:
                    if order.state == OrderState.RUNNING:
                        await endings.undo(self._context, tx, order, InlayError("order_undone"), "portal")
                    await endings.settle(self._context, tx, order, "portal")
                except WrongState:
                    continue  # its receipt came meanwhile
        return len(late)

    def _orphans(self) -> tuple[ColumnElement[bool], ...]:
        """Open intents whose order has ended, or that have none."""
        ended = select(Order.jti).where(Order.state.in_(_ENDED))
        return (
            CaIntent.state == "open",
            or_(CaIntent.order_jti.is_(None), CaIntent.order_jti.in_(ended)),
        )

    async def _ask_for_orphans(self) -> Counter[_Found]:
        async with self._context.database.read() as tx:
            found = [row.request_id for row in await tx.scalars(select(CaIntent).where(*self._orphans()))]
        counts: Counter[_Found] = Counter()
        for request_id in found:
            # what this process waits for itself is answered there
            asking = request_id in self._issuing.asking
            counts["open" if asking else await self._ask(request_id)] += 1
        return counts

    async def _ask(self, request_id: str) -> _Found:
        try:
            async with asyncio.timeout(self._context.ca_seconds):
                certificates = await self._context.ca.find(request_id=request_id)
        except (CaError, TimeoutError):
            await self._note_asked(request_id, answered=False)
            return "unanswered"
        for der in certificates:
            await self._issuing.store(request_id, der)
        if certificates:
            return "recovered"
        await self._note_asked(request_id, answered=True)
        return "open"

    async def _note_asked(self, request_id: str, *, answered: bool) -> None:
        """Ask again later; given up is only what the CA says that it doesn't have, never what it didn't answer."""
        async with self._context.database.write() as tx:
            intent = await tx.get_one(CaIntent, request_id, with_for_update=True)
            intent.changed_at = self._context.clock()
            over = intent.changed_at > intent.created_at + _GIVE_UP_AFTER
            if answered and over and intent.state == "open":
                intent.state = "given_up"
                await audit.record(
                    tx,
                    at=intent.changed_at,
                    actor="portal",
                    action="certificate.given_up",
                    kind="ca_intent",
                    object_id=request_id,
                )

    async def _revoke_left_in_issued(self) -> int:
        """Certificates in Issued whose order has ended otherwise than well."""
        ended = select(Order.jti).where(Order.state.in_(_ENDED))
        query = select(Certificate).where(
            Certificate.state == self._context.database.model.certificates.issued,
            Certificate.order_jti.in_(ended),
            Certificate.id.not_in(select(Revocation.certificate_id)),
        )
        async with self._context.database.read() as tx:
            if (await tx.execute(query.limit(1))).first() is None:
                return 0  # the usual case keeps no writer waiting
        async with self._context.database.write() as tx:
            left = list(await tx.scalars(query.with_for_update()))
            now = self._context.clock()
            for certificate in left:
                await certificates.enqueue_revocation(
                    tx, certificate, Reason.CESSATION_OF_OPERATION, "portal", now
                )
        return len(left)
