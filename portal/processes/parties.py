"""Who and what a process is about, read and checked anew at the start and at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from portal.errors import Forbidden, NotFound, SecondPerson, WrongState
from portal.model import states
from portal.processes.definition import Parties
from portal.store import objects
from portal.store.tables import Card, User
from protocol.errors import InlayError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.model.objects import ObjectKind
    from portal.model.states import Role
    from portal.processes.definition import Definition, Step, Target
    from portal.store.objects import Row
    from portal.store.tables import Process
    from portal.views import ObjectRef, Session


async def acting(
    tx: AsyncSession, session: Session, definition: Definition, role: Role, *, lock: bool = False
) -> User:
    """Who acts, as stored now and not as the session was opened with.

    Args:
        tx: the transaction.
        session: who asks.
        definition: the process; names the state that is needed.
        role: the role that is needed.
        lock: keep a second start of the same person waiting; foreign keys to the person stay possible.

    Raises:
        Forbidden: the role is missing.
        InlayError: ``user_not_active``.
    """
    query = select(User).where(User.id == session.user.id).execution_options(populate_existing=True)
    query = query.with_for_update(key_share=True) if lock else query
    user = (await tx.execute(query)).scalar_one()
    if role.value not in user.roles:
        raise Forbidden(role.value)
    if user.state != definition.user_state:
        raise InlayError("user_not_active", state=user.state)
    return user


async def at_start(
    tx: AsyncSession, user: User, definition: Definition, ref: ObjectRef | None, *, lock: bool
) -> Parties:
    """The parties of a process that is about to start, checked.

    Args:
        tx: the transaction.
        user: who acts.
        definition: the process.
        ref: its target; None for none.
        lock: keep others from changing the target until this writing transaction ends.

    Raises:
        NotFound: no such target, or one of a kind or owner that this process doesn't take.
        WrongState: target or subject is in a state that won't do; names those that would.
        PortalError, InlayError: the process's own causes.
    """
    wanted = definition.target
    if (wanted is None) != (ref is None):
        raise NotFound("process")
    target = None
    if wanted is not None and ref is not None:
        target = await _target(tx, wanted, user, ref, lock=lock)
    subject = await tx.get_one(User, objects.owner_of(target)) if target is not None else user
    found = Parties(user, subject, target)
    await check(tx, definition, found)
    return found


async def at_step(
    tx: AsyncSession, session: Session, definition: Definition, process: Process, step: Step
) -> Parties:
    """The parties of a running process at a step, checked as that step asks.

    Raises:
        Forbidden: the step's role is missing.
        SecondPerson: the step is for somebody other than who started the process.
        WrongState: target or subject is in a state that won't do; names those that would.
        PortalError, InlayError: the process's own causes; ``user_not_active``; ``card_changed``: the card has another
            holder by now.
    """
    user = await acting(tx, session, definition, step.role or definition.role)
    if step.other_person and user.id == process.user_id:
        raise SecondPerson
    found = await of(tx, process, user)
    if not step.settled:
        await check(tx, definition, found)
        if has_other_holder(definition, found):
            raise InlayError("card_changed")
    return found


def has_other_holder(definition: Definition, found: Parties) -> bool:
    """Whether a card isn't whose it was when its process was begun: a page may have waited since."""
    card = found.target
    return definition.of_holder and isinstance(card, Card) and card.owner_id != found.subject.id


async def of(tx: AsyncSession, process: Process, user: User) -> Parties:
    """The parties of a process that is there, unchecked; the target is locked."""
    target = None
    if process.target_kind is not None and process.target_id is not None:
        target = await objects.find(tx, process.target_kind, process.target_id, lock=True)
    subject = await tx.get_one(User, process.subject_id or process.user_id, populate_existing=True)
    return Parties(user, subject, target)


async def check(tx: AsyncSession, definition: Definition, found: Parties) -> None:
    """Check the states that a process asks of target and subject, and its own causes.

    Raises:
        WrongState: a state won't do; names those that would.
        PortalError, InlayError: the process's own causes.
    """
    if definition.target is not None and found.target is not None:
        state = objects.state_of(found.target)
        if state is not None and state not in definition.target.states:
            kind = objects.kind_of(found.target)
            raise WrongState(kind.value, state, _would_do(kind, definition.target))
    needed = definition.subject_states
    if needed and found.subject.state not in needed:
        raise WrongState("subject", found.subject.state, (state.value for state in needed))
    await definition.check(tx, found)


def _would_do(kind: ObjectKind, wanted: Target) -> frozenset[str]:
    """Of the states that a process takes in objects of several kinds, those that one of this kind can be in."""
    graph = states.OF_CARDS.get(kind.value)
    return wanted.states if graph is None else wanted.states & {state.value for state in graph.states}


async def _target(tx: AsyncSession, wanted: Target, user: User, ref: ObjectRef, *, lock: bool) -> Row:
    if ref.kind not in wanted.kinds:
        raise NotFound(ref.kind)
    row = await objects.find(tx, ref.kind, ref.id, lock=lock)
    if wanted.own and objects.owner_of(row) != user.id:
        raise NotFound(ref.kind)
    return row
