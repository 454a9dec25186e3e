"""Runs processes: role, state of the user and version of the page are checked at the start and at every step."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select

from portal.errors import Forbidden, NotFound, StalePage, WrongState
from portal.events import process_topic
from portal.model import states
from portal.model.states import OrderState, ProcessState
from portal.processes import endings, order_rows
from portal.store import audit
from portal.store.database import notify
from portal.store.tables import Order, Process, User
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Definition
    from portal.views import Session


class Instance(NamedTuple):
    """A process instance with its definition and its order."""

    definition: Definition
    process: Process
    order: Order | None


class Engine:
    """Starts, moves on and cancels process instances."""

    def __init__(self, context: Context, definitions: Iterable[Definition]) -> None:
        self._context = context
        self.definitions = {definition.name: definition for definition in definitions}

    async def start(self, session: Session, name: str) -> Instance:
        """Start a process; one of the same name that this user has running is taken up instead.

        Raises:
            NotFound: no such process.
            Forbidden: the role is missing.
            InlayError: ``user_not_active``.
        """
        definition = self.definitions.get(name)
        if definition is None:
            raise NotFound("process")
        async with self._context.database.write() as tx:
            user = await self._user(tx, session, definition)
            process = await self.running(tx, user.id, name)
            if process is None:
                process = await self._begin(tx, definition, user)
            return Instance(definition, process, await _order_of(tx, process.id))

    async def find(self, session: Session, process_id: str) -> Instance:
        """A process of this user.

        Raises:
            NotFound: no such process, or another user's.
        """
        async with self._context.database.read() as tx:
            return await self.load(tx, session, process_id)

    async def next(self, session: Session, process_id: str, expected_version: int) -> Instance:
        """Go on to the next step; the same page sent twice does its work once.

        Raises:
            NotFound: no such process, or another user's.
            StalePage: the page is older than the process.
            WrongState: the step isn't complete, or the process has ended.
            Forbidden: the role is missing.
            InlayError: ``user_not_active``.
        """
        async with self._context.database.write() as tx:
            instance = await self.load(tx, session, process_id, lock=True)
            definition, process, order = instance
            if process.submitted_version == expected_version:
                return instance
            if process.version != expected_version:
                raise StalePage(process.version)
            _check_running(process)
            user = await self._user(tx, session, definition)
            before = process.step
            await definition.advance(tx, process, order, user, session)
            process.submitted_version, process.changed_at = expected_version, self._context.clock()
            await self._note(tx, process, user.email, "process.step", before=before, after=process.step)
            await tx.flush()
            return Instance(definition, process, await _order_of(tx, process.id))

    async def cancel(self, session: Session, process_id: str) -> Instance:
        """Cancel: what was made is undone. Cancelled twice is cancelled once.

        Raises:
            NotFound: no such process, or another user's.
            WrongState: it has ended otherwise, or its order is just being finished.
        """
        async with self._context.database.write() as tx:
            found = await self.load(tx, session, process_id)
            # locks are taken in one order everywhere: the order, then its process
            order = await order_rows.load(tx, found.order.jti) if found.order else None
            definition, process, _ = await self.load(tx, session, process_id, lock=True)
            if process.state == ProcessState.CANCELLED:
                return Instance(definition, process, order)
            _check_running(process)
            if order is not None and order.state != OrderState.FINISHED:
                error = InlayError("cancelled_at_portal")
                await endings.undo(self._context, tx, order, error, session.user.email)
            else:
                self._close(process)
            notify(tx, process_topic(process.id))
            await self._note(tx, process, session.user.email, "process.cancelled", step=process.step)
            return Instance(definition, process, order)

    async def running(self, tx: AsyncSession, user_id: str, name: str) -> Process | None:
        """This user's process of a name that is running."""
        query = select(Process).where(
            Process.user_id == user_id, Process.name == name, Process.state == ProcessState.RUNNING.value
        )
        return (await tx.execute(query.order_by(Process.created_at.desc()).limit(1))).scalar_one_or_none()

    async def load(
        self, tx: AsyncSession, session: Session, process_id: str, *, lock: bool = False
    ) -> Instance:
        """A process of this user, in the caller's transaction.

        Raises:
            NotFound: no such process, or another user's.
        """
        query = select(Process).where(Process.id == process_id).execution_options(populate_existing=True)
        process = (await tx.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
        if process is None or process.user_id != session.user.id or process.name not in self.definitions:
            raise NotFound("process")
        return Instance(self.definitions[process.name], process, await _order_of(tx, process_id))

    async def _begin(self, tx: AsyncSession, definition: Definition, user: User) -> Process:
        now = self._context.clock()
        process = Process(
            id=secrets.token_hex(16),
            name=definition.name,
            user_id=user.id,
            state=states.PROCESS.start.value,
            step=definition.steps[0].name,
            variables=await definition.variables(tx, user),
            created_at=now,
            changed_at=now,
        )
        tx.add(process)
        await tx.flush()
        await self._note(tx, process, user.email, "process.started", name=definition.name)
        return process

    async def _user(self, tx: AsyncSession, session: Session, definition: Definition) -> User:
        """The user as stored now, not as the session was opened with."""
        user = await tx.get_one(User, session.user.id, populate_existing=True)
        if definition.role.value not in user.roles:
            raise Forbidden(definition.role.value)
        if user.state != definition.user_state:
            raise InlayError("user_not_active", state=user.state)
        return user

    def _close(self, process: Process) -> None:
        process.state = states.PROCESS.check(ProcessState(process.state), ProcessState.CANCELLED).value
        process.error = order_rows.as_json(InlayError("cancelled_at_portal"))
        process.changed_at = self._context.clock()

    async def _note(
        self, tx: AsyncSession, process: Process, actor: str, action: str, **details: str
    ) -> None:
        await audit.record(
            tx,
            at=self._context.clock(),
            actor=actor,
            action=action,
            kind="process",
            object_id=process.id,
            **details,
        )


async def _order_of(tx: AsyncSession, process_id: str) -> Order | None:
    query = select(Order).where(Order.process_id == process_id).execution_options(populate_existing=True)
    return (await tx.execute(query)).scalar_one_or_none()


def _check_running(process: Process) -> None:
    if process.state != ProcessState.RUNNING:
        raise WrongState("process", process.state, (ProcessState.RUNNING.value,))
