"""The services behind the portal's pages (``portal.services.Services``)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from portal import card_views, option_store
from portal.errors import WrongState
from portal.events import order_topic, process_topic
from portal.model.states import OrderState, ProcessState, Role
from portal.processes import binding, card_batches, codes, order_rows, overruled_options, parties
from portal.processes.codes import LINK_SECONDS, TYPED_SECONDS
from portal.processes.definition import OPEN
from portal.rate_limits import RateLimit
from portal.services import NO_FORM
from portal.staff.access import require
from portal.store import objects
from portal.store.tables import User
from portal.views import (
    CodeView,
    NumberResult,
    OptionsView,
    PortalInfo,
    ProcessView,
    Session,
    Startable,
    StepView,
    Waiting,
)
from protocol import jose, link
from protocol.errors import InlayError
from protocol.messages import Ticket
from protocol.page_messages import TICKET_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.accounts import Accounts
    from portal.model.objects import CoreObject
    from portal.processes.context import Context
    from portal.processes.definition import Definition
    from portal.processes.engine import Engine, Instance
    from portal.store.tables import Order, Process
    from portal.views import CardView, LetterView, Login, ObjectRef
    from protocol.messages import PageEvent

_CODES: Final = (30, 300)
TICKETS: Final = (120, 300)
"""Of a session: a page asks for one when it begins to watch, every five minutes, and after each change at a reader."""
_ENDED: Final = ("finished", "undone")
_CANCELLABLE: Final = frozenset({OrderState.WAITING, OrderState.RUNNING, OrderState.FINISHED})


class SelfService:
    """What pages may ask for; every call checks role, state and owner itself."""

    def __init__(self, context: Context, accounts: Accounts, engine: Engine, info: PortalInfo) -> None:
        self._context = context
        self._accounts = accounts
        self._engine = engine
        self._info = info
        self._codes_made = RateLimit(*_CODES, context.clock)
        self._tickets_made = RateLimit(*TICKETS, context.clock)

    @property
    def info(self) -> PortalInfo:
        """The portal's name, origin and root key fingerprint."""
        return self._info

    async def login(self, email: str, password: str, address: str) -> Login:
        """Log in; always makes a new session."""
        return await self._accounts.login(email, password, address)

    async def session(self, token: str) -> Session | None:
        """The session of a cookie's value; None when unknown or expired."""
        return await self._accounts.session(token)

    async def logout(self, session: Session) -> None:
        """End the session."""
        await self._accounts.logout(session)

    async def dashboard(self, session: Session) -> Sequence[Startable]:
        """The processes that this person's roles know, each with the reason when it can't be started."""
        async with self._context.database.read() as tx:
            return [
                await self._startable(tx, session, definition, None)
                for definition in self._engine.definitions.values()
                if definition.target is None and definition.role in session.user.roles
            ]

    async def possible(self, session: Session, ref: ObjectRef) -> Sequence[Startable]:
        """The processes that this person may start on an object, each with the reason when it can't be now."""
        async with self._context.database.read() as tx:
            row = await objects.find(tx, ref.kind, ref.id)
            own = objects.owner_of(row) == session.user.id
            return [
                await self._startable(tx, session, definition, ref)
                for definition in self._engine.definitions.values()
                if definition.target is not None
                and ref.kind in definition.target.kinds
                and definition.role in session.user.roles
                and (own or not definition.target.own)
            ]

    async def waiting(self, session: Session) -> Sequence[Waiting]:
        """Processes of others that wait for this person's agreement, oldest first."""
        async with self._context.database.read() as tx:
            return [
                Waiting(
                    id=process.id,
                    title=self._engine.definitions[process.name].title,
                    target=await _target(tx, process),
                    asked_by=(await tx.get_one(User, process.user_id)).email,
                    asked_at=process.created_at,
                )
                for process in await self._engine.waiting(tx, session)
            ]

    async def start_process(self, session: Session, name: str, ref: ObjectRef | None = None) -> ProcessView:
        """Start a process, or take up the one that is running."""
        return await self._view(session, await self._engine.start(session, name, ref))

    async def process(self, session: Session, process_id: str) -> ProcessView:
        """A process that is open to this user."""
        return await self._view(session, await self._engine.find(session, process_id))

    async def next(
        self,
        session: Session,
        process_id: str,
        expected_version: int,
        form: Mapping[str, Sequence[str]] = NO_FORM,
    ) -> ProcessView:
        """Go on to the next step."""
        instance = await self._engine.next(session, process_id, expected_version, form)
        secret = await self._engine.reveal(session, instance)
        if secret is None:
            return await self._view(session, instance)
        view = await self._view(session, await self._engine.find(session, process_id))
        return dataclasses.replace(view, secret=secret)

    async def cancel(self, session: Session, process_id: str) -> ProcessView:
        """Cancel: nothing is left valid."""
        return await self._view(session, await self._engine.cancel(session, process_id))

    async def letter(self, session: Session, process_id: str, kind: str) -> bytes:
        """Print a letter of a process."""
        return await self._engine.letter(session, process_id, kind)

    async def new_code(self, session: Session, process_id: str) -> CodeView:
        """Make fresh codes; an order that nobody has claimed yet belongs to the session that asks last."""
        self._codes_made.check(session.id)
        async with self._context.database.write() as tx:
            order = await self._open_order(tx, session, process_id)
            if order.state == OrderState.WAITING:
                order.session_id = session.id
            elif order.session_id != session.id:
                raise InlayError("binding_refused")
            now = self._context.clock()
            fresh = codes.renew(order, now)
            order_rows.changed(tx, order)
        self._codes_made.count(session.id)
        return CodeView(
            order=order.jti,
            portal=self._context.portal,
            code=fresh.code,
            link=link.build(self._context.portal, fresh.code),
            typed_code=f"{fresh.typed[:5]}-{fresh.typed[5:]}",
            link_expires_at=now + LINK_SECONDS,
            typed_expires_at=now + TYPED_SECONDS,
        )

    async def enter_number(self, session: Session, process_id: str, number: str) -> NumberResult:
        """Enter the number that the agent shows."""
        jti = await self._order_id(session, process_id)
        return await binding.enter_number(
            self._context, jti, session.id, session.user.email, number.strip()[:16]
        )

    async def complete(self, session: Session, process_id: str, completion: str) -> None:
        """Hand over the completion secret."""
        jti = await self._order_id(session, process_id)
        await binding.complete(self._context, jti, session.id, session.user.email, completion)

    async def events(self, session: Session, process_id: str) -> AsyncIterator[PageEvent]:
        """Where the order stands, now and after each change; ends with the order or the session."""
        jti = await self._order_id(session, process_id)
        last: PageEvent | None = None
        with self._context.database.bus.watch(order_topic(jti), process_topic(process_id)) as watch:
            while self._context.clock() < session.expires_at:
                async with self._context.database.read() as tx:
                    event = order_rows.page_event(await order_rows.load(tx, jti))
                if event != last:
                    yield event
                    last = event
                if event.state in _ENDED:
                    return
                await watch.wait(session.expires_at - self._context.clock())

    async def letters(self, session: Session, process_id: str) -> AsyncIterator[Sequence[LetterView]]:
        """The letters that a process may print, now and after each change; ends with them or the session."""
        last: Sequence[LetterView] | None = None
        with self._context.database.bus.watch(process_topic(process_id)) as watch:
            while self._context.clock() < session.expires_at:
                found = (await self.process(session, process_id)).letters
                if not found:
                    return
                if found != last:
                    yield found
                    last = found
                await watch.wait(session.expires_at - self._context.clock())

    async def cards(self, session: Session) -> Sequence[CardView]:
        """The user's virtual smart cards, newest first."""
        async with self._context.database.read() as tx:
            return await card_views.of_owner(tx, session.user.id)

    async def ticket(self, session: Session) -> str:
        """A ticket for reading, for pages of this portal."""
        self._tickets_made.take(session.id)
        now = self._context.clock()
        ticket = Ticket(
            iss=self._context.portal,
            aud="inlay",
            origin=self._context.origin,
            level="read",
            iat=now,
            exp=min(now + TICKET_SECONDS, session.expires_at),
        )
        return self._context.keys.order_keys()[0].sign(jose.TICKET, ticket)

    async def options(self, session: Session, script: str) -> OptionsView:
        """The options of a script."""
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.read() as tx:
            return self._options_view(script, await option_store.current(tx, script))

    async def save_options(
        self, session: Session, script: str, expected_version: int, form: Mapping[str, Sequence[str]]
    ) -> OptionsView:
        """Save options as a form sends them."""
        require(session, Role.ADMINISTRATOR)
        values = option_store.script_of(script).parse(form)
        async with self._context.database.write() as tx:
            saved = await option_store.save(
                tx, script, expected_version, values, by=session.user.email, now=self._context.clock()
            )
        return self._options_view(script, saved)

    def _options_view(self, script: str, saved: option_store.Saved) -> OptionsView:
        description = option_store.script_of(script)
        overruled = overruled_options.of_script(script, self._context.descriptions)
        return OptionsView(
            script=script,
            version=saved.version,
            options=description.options,
            values=saved.values,
            saved_by=saved.saved_by,
            saved_at=saved.saved_at,
            warnings=description.warn(saved.values),
            title=description.title,
            unread=script in option_store.UNREAD,
            notes={name: item.notes for name, item in overruled.items()},
            fixed=frozenset(name for name, item in overruled.items() if item.wholly),
        )

    async def _open_order(self, tx: AsyncSession, session: Session, process_id: str) -> Order:
        definition, process, found = await self._engine.load(tx, session, process_id)
        if process.state != ProcessState.RUNNING:
            raise WrongState("process", process.state, (ProcessState.RUNNING.value,))
        if process.step != OPEN or found is None:
            raise WrongState("process", process.step, (OPEN,))
        # making a code is a step towards the work: who and what it is about is checked here, too
        await parties.at_step(tx, session, definition, process, definition.step(process))
        order = await order_rows.load(tx, found.jti)
        if order.state not in (OrderState.WAITING, OrderState.RUNNING):
            raise WrongState("order", order.state, (OrderState.WAITING.value, OrderState.RUNNING.value))
        return order

    async def _order_id(self, session: Session, process_id: str) -> str:
        _, process, order = await self._engine.find(session, process_id)
        if order is None:
            raise WrongState("process", process.step, (OPEN,))
        return order.jti

    async def _startable(
        self, tx: AsyncSession, session: Session, definition: Definition, ref: ObjectRef | None
    ) -> Startable:
        running = await self._engine.running(tx, session.user.id, definition.name, ref)
        return Startable(
            name=definition.name,
            title=definition.title,
            description=definition.description,
            refused=await self._engine.refusal(tx, session, definition.name, ref),
            open_process=running.id if running else None,
        )

    async def _view(self, session: Session, instance: Instance) -> ProcessView:
        definition, process, order = instance
        async with self._context.database.read() as tx:
            card = None
            if order is not None and order.card_id is not None and order.state == OrderState.FINISHED:
                card = await card_views.one(tx, order.card_id)
            target = await _target(tx, process)
            subject = await tx.get_one(User, process.subject_id or process.user_id)
            started_by = await tx.get_one(User, process.user_id)
            own = session.user.id == process.user_id
            letters = await definition.letters(tx, process) if own else ()
        step, run = instance.step, process.variables.get(card_batches.RUN)
        running = process.state == ProcessState.RUNNING
        acts = (session.user.id != process.user_id) == step.other_person
        return ProcessView(
            id=process.id,
            name=process.name,
            title=definition.title,
            state=ProcessState(process.state),
            step=process.step,
            steps=[StepView(item.name, item.title) for item in definition.steps],
            version=process.version,
            facts=definition.facts(process),
            form=step.form.options if running and acts else (),
            values=step.form.defaults() if running and acts else {},
            target=target,
            subject=subject.email,
            started_by=started_by.email,
            can_next=acts and definition.can_next(process, order),
            can_cancel=running
            and (acts or session.user.id == process.user_id)
            and (order is None or order.state in _CANCELLABLE),
            cancel_effect=definition.cancel_effect(process, order),
            order=None if order is None else order_rows.page_event(order),
            card=card,
            error=order_rows.page_error(order_rows.from_json(process.error), order),
            progress=definition.progress,
            letters=letters,
            batch=process.variables.get(card_batches.BATCH, "") if run is None else run["batch"],
            in_run=own and run is not None,
            goes_on=run is not None and run["goes_on"],
        )


async def _target(tx: AsyncSession, process: Process) -> CoreObject | None:
    if process.target_kind is None or process.target_id is None:
        return None
    return objects.describe(await objects.find(tx, process.target_kind, process.target_id))
