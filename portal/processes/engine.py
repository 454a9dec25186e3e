"""Runs processes: who acts, whom and what it is about, and the page's version are checked at every step."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select, tuple_

from portal.errors import NotFound, PortalError, StalePage, WrongState
from portal.events import process_topic
from portal.model import states
from portal.model.states import OrderState, ProcessState
from portal.processes import endings, order_rows, parties
from portal.processes.definition import OPEN, Definition, Turn
from portal.services import NO_FORM
from portal.store import audit, objects
from portal.store.database import notify
from portal.store.tables import Order, Process
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.processes.definition import Parties, Step
    from portal.store.tables import User
    from portal.views import ObjectRef, Secret, Session, UserView


class Instance(NamedTuple):
    """A process instance with its definition and its order."""

    definition: Definition
    process: Process
    order: Order | None

    @property
    def step(self) -> Step:
        """The step at which it stands."""
        return self.definition.step(self.process)


class Engine:
    """Starts, moves on and cancels process instances."""

    def __init__(self, context: Context, definitions: Iterable[Definition]) -> None:
        self._context = context
        self.definitions = {definition.name: definition for definition in definitions}

    async def start(self, session: Session, name: str, ref: ObjectRef | None = None) -> Instance:
        """Start a process; one of the same name and target that this user has running is taken up instead.

        Unless that one can't go on, because its card has another holder by now.

        Args:
            session: who asks.
            name: the process's symbolic name.
            ref: the object it is to work on; None for a process without a target.

        Raises:
            NotFound: no such process, or no such object for it.
            Forbidden: the role is missing.
            WrongState: target or subject is in a state that won't do; names those that would.
            PortalError: the process's own cause.
            InlayError: ``user_not_active``, or the process's own cause.
        """
        definition = self.definitions.get(name)
        if definition is None:
            raise NotFound("process")
        async with self._context.database.write() as tx:
            # who starts is locked: two starts at once are one process
            user = await parties.acting(tx, session, definition, definition.role, lock=True)
            process = await self.running(tx, user.id, name, ref)
            if process is None or await _is_left(tx, definition, process, user):
                found = await parties.at_start(tx, user, definition, ref, lock=True)
                process = await self._begin(tx, definition, found)
            return Instance(definition, process, await _order_of(tx, process.id))

    async def refusal(
        self, tx: AsyncSession, session: Session, name: str, ref: ObjectRef | None
    ) -> str | None:
        """Why this user can't start a process now, for a person; None when it is possible."""
        definition = self.definitions[name]
        try:
            user = await parties.acting(tx, session, definition, definition.role)
            await parties.at_start(tx, user, definition, ref, lock=False)
        except PortalError as error:
            return str(error)
        except InlayError as error:
            return error.why
        return None

    async def find(self, session: Session, process_id: str) -> Instance:
        """A process of this user, or one that waits for this user as second person.

        Raises:
            NotFound: no such process, or not open to this user.
        """
        async with self._context.database.read() as tx:
            return await self.load(tx, session, process_id)

    async def next(
        self,
        session: Session,
        process_id: str,
        expected_version: int,
        form: Mapping[str, Sequence[str]] = NO_FORM,
    ) -> Instance:
        """Go on to the next step; the same page sent twice does its work once.

        Args:
            session: who asks.
            process_id: the process.
            expected_version: the version that the page showed.
            form: the step's fields as the page sends them.

        Raises:
            NotFound: no such process, or not open to this user.
            StalePage: the page is older than the process.
            WrongState: the step isn't complete, the process has ended, or target or subject is in a state that
                won't do; names those that would.
            FieldErrors: the step's form; a sentence for each field.
            Forbidden: the role is missing.
            SecondPerson: the step is for somebody else.
            InlayError: ``user_not_active``, or the process's own cause.
        """
        async with self._context.database.write() as tx:
            instance = await self._load_locked(tx, session, process_id)
            definition, process, _ = instance
            if process.submitted_version == expected_version:
                return instance
            if process.version != expected_version:
                raise StalePage(process.version)
            _check_running(process)
            _check_acts(session, instance)
            await self._take(tx, session, instance, form)
            await tx.flush()
            return Instance(definition, process, await _order_of(tx, process.id))

    async def reveal(self, session: Session, instance: Instance) -> Secret | None:
        """What the answer to this *Next* shows, once; None for nearly all processes.

        Raises:
            NotFound: no such process, or not open to this user.
            Forbidden: the role was taken away since the step was taken.
            InlayError: ``user_not_active``.
        """
        if (
            type(instance.definition).reveal is Definition.reveal
            or session.user.id != instance.process.user_id
        ):
            return None
        async with self._context.database.write() as tx:
            definition, process, _ = found = await self.load(tx, session, instance.process.id, lock=True)
            # a page that is sent again gets here without taking a step
            await parties.acting(tx, session, definition, found.step.role or definition.role)
            return await definition.reveal(tx, process, session.user.email)

    async def letter(self, session: Session, process_id: str, kind: str) -> bytes:
        """Print a letter of a process, for who started it.

        Returns:
            PDF.

        Raises:
            NotFound: no such process, or somebody else's.
            Forbidden: the role is missing.
            InlayError: ``user_not_active``, ``letter_gone``, ``letter_used_up``.
        """
        async with self._context.database.write() as tx:
            instance = await self._load_locked(tx, session, process_id)
            definition, process, _ = instance
            if session.user.id != process.user_id:
                raise NotFound("process")
            await parties.acting(tx, session, definition, definition.role)
            if all(letter.kind != kind for letter in await definition.letters(tx, process)):
                raise InlayError("letter_gone")
            content = await definition.letter(tx, process, kind, session.user.email)
            notify(tx, process_topic(process.id))
            return content

    async def cancel(self, session: Session, process_id: str) -> Instance:
        """Cancel: what was made is undone. Cancelled twice is cancelled once.

        Raises:
            NotFound: no such process, or not open to this user.
            WrongState: it has ended otherwise, or its order is just being finished.
        """
        async with self._context.database.write() as tx:
            instance = await self._load_locked(tx, session, process_id)
            _, process, order = instance
            if process.state == ProcessState.CANCELLED:
                return instance
            _check_running(process)
            _check_acts(session, instance)
            if order is not None and order.state != OrderState.FINISHED:
                error = InlayError("cancelled_at_portal")
                await endings.undo(self._context, tx, order, error, session.user.email)
            else:
                await instance.definition.cancelled(tx, process, session.user.email)
                self._close(process)
            notify(tx, process_topic(process.id))
            await self._note(tx, process, session.user, "process.cancelled", step=process.step)
            return instance

    async def running(
        self, tx: AsyncSession, user_id: str, name: str, ref: ObjectRef | None = None
    ) -> Process | None:
        """This user's process of a name, on this target, that is running."""
        kind, object_id = ref or (None, None)
        query = select(Process).where(
            Process.user_id == user_id,
            Process.name == name,
            Process.state == ProcessState.RUNNING.value,
            Process.target_kind.is_not_distinct_from(kind),
            Process.target_id.is_not_distinct_from(object_id),
        )
        return (await tx.execute(query.order_by(Process.created_at.desc()).limit(1))).scalar_one_or_none()

    async def waiting(self, tx: AsyncSession, session: Session) -> list[Process]:
        """Processes of others that wait for a second person, and this user can be that one; oldest first."""
        steps = [
            (definition.name, step.name)
            for definition in self.definitions.values()
            for step in definition.steps
            if step.other_person and (step.role or definition.role) in session.user.roles
        ]
        if not steps:
            return []
        query = select(Process).where(
            tuple_(Process.name, Process.step).in_(steps),
            Process.state == ProcessState.RUNNING.value,
            Process.user_id != session.user.id,
        )
        return list(await tx.scalars(query.order_by(Process.created_at, Process.id)))

    async def load(
        self, tx: AsyncSession, session: Session, process_id: str, *, lock: bool = False
    ) -> Instance:
        """A process that is open to this user, in the caller's transaction.

        Raises:
            NotFound: no such process, or not open to this user.
        """
        query = select(Process).where(Process.id == process_id).execution_options(populate_existing=True)
        process = (await tx.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
        if process is None or process.name not in self.definitions:
            raise NotFound("process")
        definition = self.definitions[process.name]
        if not _is_open_to(session, definition, process):
            raise NotFound("process")
        return Instance(definition, process, await _order_of(tx, process_id))

    async def _take(
        self, tx: AsyncSession, session: Session, instance: Instance, form: Mapping[str, Sequence[str]]
    ) -> None:
        """Take the step where a process stands: parties and form are checked, the definition does the work."""
        definition, process, order = instance
        step, shown = instance.step, process.version
        found = await parties.at_step(tx, session, definition, process, step)
        values = step.form.parse(form)
        process.variables.update(values)
        await definition.advance(Turn(tx, process, order, session, values, found))
        now = self._context.clock()
        if step.other_person:
            process.approved_by, process.approved_at = found.user.id, now
        process.submitted_version, process.changed_at = shown, now
        notify(tx, process_topic(process.id))
        moved = {"before": step.name, "after": process.step, "state": process.state}
        await self._note(tx, process, found.user, "process.step", **moved)

    async def _load_locked(self, tx: AsyncSession, session: Session, process_id: str) -> Instance:
        """A process with all it touches locked, in the order of all transactions: order, target, process."""
        found = await self.load(tx, session, process_id)
        order = await order_rows.load(tx, found.order.jti) if found.order else None
        kind, object_id = found.process.target_kind, found.process.target_id
        if kind is not None and object_id is not None:
            await objects.find(tx, kind, object_id, lock=True)
        definition, process, now_of = await self.load(tx, session, process_id, lock=True)
        # an order that came in between was made by the page that this one is about to find stale
        return Instance(definition, process, order or now_of)

    async def _begin(self, tx: AsyncSession, definition: Definition, found: Parties) -> Process:
        now = self._context.clock()
        user, subject, target = found
        process = Process(
            id=secrets.token_hex(16),
            name=definition.name,
            user_id=user.id,
            subject_id=None if subject.id == user.id else subject.id,
            target_kind=None if target is None else objects.kind_of(target).value,
            target_id=None if target is None else target.id,
            state=states.PROCESS.start.value,
            step=definition.steps[0].name,
            variables=await definition.variables(tx, found),
            created_at=now,
            changed_at=now,
        )
        tx.add(process)
        await tx.flush()
        about = {} if target is None else {"target": process.target_id or "", "subject": subject.email}
        await self._note(tx, process, user, "process.started", name=definition.name, **about)
        return process

    def _close(self, process: Process) -> None:
        process.state = states.PROCESS.check(ProcessState(process.state), ProcessState.CANCELLED).value
        process.error = order_rows.as_json(InlayError("cancelled_at_portal"))
        process.changed_at = self._context.clock()

    async def _note(
        self, tx: AsyncSession, process: Process, actor: User | UserView, action: str, **details: str
    ) -> None:
        await audit.record(
            tx,
            at=self._context.clock(),
            actor=actor.email,
            action=action,
            kind="process",
            object_id=process.id,
            **details,
        )


def _is_open_to(session: Session, definition: Definition, process: Process) -> bool:
    """To who started it, and to whoever can be or was its second person."""
    user = session.user
    if user.id in (process.user_id, process.approved_by):
        return True
    step = definition.step(process)
    needed = step.role or definition.role
    return process.state == ProcessState.RUNNING and step.other_person and needed in user.roles


def _check_acts(session: Session, instance: Instance) -> None:
    """Who was the second person may look at what became of it, and does nothing more."""
    if session.user.id != instance.process.user_id and not instance.step.other_person:
        raise NotFound("process")


async def _is_left(tx: AsyncSession, definition: Definition, process: Process, user: User) -> bool:
    """Whether a process can't go on from where it stands, because its card has another holder by now."""
    step = definition.step(process)
    if step.settled or step.name == OPEN:
        return False  # what was ordered ends by itself
    return parties.has_other_holder(definition, await parties.of(tx, process, user))


async def _order_of(tx: AsyncSession, process_id: str) -> Order | None:
    query = select(Order).where(Order.process_id == process_id).execution_options(populate_existing=True)
    return (await tx.execute(query)).scalar_one_or_none()


def _check_running(process: Process) -> None:
    if process.state != ProcessState.RUNNING:
        raise WrongState("process", process.state, (ProcessState.RUNNING.value,))
