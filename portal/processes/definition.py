"""What a process is: its steps, who may take them, what it works on, and the work between the steps.

Instances are rows (``portal.store.tables.Process``): step, state and variables are all there is of one, so that it goes
on after a restart wherever it stood. ``docs/add-a-process.md`` tells how one is written.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from portal.encoding.plan import stored
from portal.model import states
from portal.model.options import Form
from portal.model.states import OrderState, ProcessState, Role, UserState
from portal.processes import order_rows
from portal.store.tables import Card
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.encoding.plan import Plan
    from portal.model.objects import ObjectKind
    from portal.model.options import Values
    from portal.store.objects import Row
    from portal.store.tables import Order, Process, User
    from portal.views import LetterView, Secret, Session
    from protocol.messages import Operation
    from protocol.messages import Step as OrderStep

OPEN: Final = "open"
"""The step at which an order is carried out; from there the order itself moves the process."""
BINDING: Final = ("This browser", "It is made sure that this page and Inlay belong together.")
"""What a page says at that step of any order, for `Definition.progress`."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: symbolic name; ``OPEN`` for the step at which an order is carried out.
        title: for people.
        form: what is asked for at this step; its values are process variables from *Next* on.
        role: the role that taking it needs; None: the process's.
        other_person: only somebody other than who started the process may take it. Who did is ``Process.approved_by``.
        settled: the work is done: the states that target and subject had to be in are no longer asked for.
    """

    name: str
    title: str
    form: Form = field(default_factory=Form)
    role: Role | None = None
    other_person: bool = False
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """The kind of object a process works on.

    Attributes:
        kinds: kinds of object that will do.
        states: states one of which it must be in, at the start and at each step until the work is done.
        own: it must belong to who starts the process.
    """

    kinds: frozenset[ObjectKind]
    states: frozenset[str]
    own: bool = False


class Parties(NamedTuple):
    """Who and what a process is about, as stored now.

    Attributes:
        user: who acts.
        subject: whom it is about: the target's owner, else who started it.
        target: the object it works on, locked for this transaction; None for a process without one.
    """

    user: User
    subject: User
    target: Row | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A *Next* that is being carried out, all in one writing transaction.

    Attributes:
        tx: the transaction.
        process: the instance, locked; its variables hold the step's form already.
        order: its order, or None.
        session: the session that asks.
        values: the step's form as it was sent and checked.
        parties: who and what it is about.
    """

    tx: AsyncSession
    process: Process
    order: Order | None
    session: Session
    values: Values
    parties: Parties


class Definition(abc.ABC):
    """A process. What most don't need has a default.

    Attributes:
        name: symbolic name.
        title: name for people.
        description: one sentence for the start page or the object's page.
        role: role that who starts it needs.
        user_state: state that whoever acts needs, at the start and at every step.
        subject_states: states one of which the person it is about must be in, until the work is done; empty: any.
        target: what it works on; None for one that starts from the start page.
        of_holder: it is about the holder of a card, too, and goes no further where that is another one by now.
        steps: all steps, in order; an instance begins at the first.
        progress: steps of its order as the page names them, with what happens at each; None: those of a new card.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    role: ClassVar[Role]
    user_state: ClassVar[UserState] = UserState.ACTIVE
    subject_states: ClassVar[frozenset[UserState]] = frozenset()
    target: Target | None = None
    of_holder: ClassVar[bool] = True
    steps: tuple[Step, ...]
    progress: ClassVar[Mapping[OrderStep, tuple[str, str]] | None] = None

    async def check(self, tx: AsyncSession, parties: Parties) -> None:  # noqa: B027  # most have no cause of their own
        """Refuse for a cause of the process's own; asked at the start and at each step until the work is done.

        Raises:
            PortalError: for example ``SwitchedOff`` or ``WrongState``.
            InlayError: a cause of the table.
        """

    async def variables(self, tx: AsyncSession, parties: Parties) -> dict[str, Any]:
        """The variables of a new instance: options are read here and never again."""
        return {}

    @abc.abstractmethod
    async def advance(self, turn: Turn) -> None:
        """Do the work of *Next* at the step where the process stands, and move it on (``go``, ``finish``).

        Raises:
            WrongState: the step isn't complete.
            FieldErrors: the form fits by itself and not to what is stored.
        """

    async def reveal(self, tx: AsyncSession, process: Process, actor: str) -> Secret | None:
        """What is shown in the answer to a *Next*, and nowhere else; asked after each, with the process locked.

        Args:
            tx: a writing transaction of its own: that something was shown is stored before it is.
            process: the process.
            actor: e-mail address of who asked, for the audit log.
        """
        return None

    async def cancelled(self, tx: AsyncSession, process: Process, actor: str) -> None:  # noqa: B027  # most leave nothing
        """Put right what an instance leaves that is cancelled without an order that could be undone.

        Args:
            tx: the transaction that cancels it.
            process: the process, at the step where it stood.
            actor: e-mail address of who cancels.
        """

    async def letters(self, tx: AsyncSession, process: Process) -> Sequence[LetterView]:
        """The letters that can be printed at the step where a process stands."""
        return ()

    async def letter(self, tx: AsyncSession, process: Process, kind: str, actor: str) -> bytes:
        """Print a letter.

        Args:
            tx: a writing transaction of its own: that it was printed is stored before it is shown.
            process: the process, locked.
            kind: of ``letters``.
            actor: e-mail address of who asked, for the audit log.

        Returns:
            PDF.

        Raises:
            InlayError: ``letter_gone``, ``letter_used_up``.
        """
        raise InlayError("letter_gone")

    def can_next(self, process: Process, order: Order | None) -> bool:
        """Whether *Next* is possible: not where an order moves the process."""
        return process.state == ProcessState.RUNNING and process.step != OPEN

    def facts(self, process: Process) -> Mapping[str, str]:
        """Label to value, for the pages."""
        return {}

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What Cancel will do, one sentence."""
        if self.step(process).settled:
            return "This process is closed. What was done stays."
        if order is None or order.state == OrderState.WAITING:
            return "Nothing was changed yet. The process is closed."
        return "What was begun is undone."

    def step(self, process: Process) -> Step:
        """The step at which a process stands."""
        return next(step for step in self.steps if step.name == process.step)


def go(turn: Turn, step: str) -> None:
    """Move a process on to a step."""
    turn.process.step = step


def finish(turn: Turn, step: str) -> None:
    """End a process well, at a step."""
    turn.process.step = step
    turn.process.state = states.PROCESS.check(ProcessState(turn.process.state), ProcessState.FINISHED).value


def open_order(
    turn: Turn, operation: Operation, *, resume_within: int, now: int, task: Plan | None = None
) -> Order:
    """Make the order of a process, and move the process to the step at which it is carried out.

    Args:
        turn: the *Next* that asked for it; the process's variable ``user_id`` names the account in the consent window.
        operation: what is ordered, as it will be signed.
        resume_within: seconds after which both sides undo without the other.
        now: time.
        task: the plan of the task that the order carries out; None where nothing is issued.

    Returns:
        The order, stored with the rest of the turn.
    """
    process = turn.process
    order = order_rows.new(
        process, turn.parties.user, turn.session.id, operation, resume_within=resume_within, now=now
    )
    order.task = None if task is None else stored(task)
    turn.tx.add(order)
    if isinstance(target := turn.parties.target, Card):
        process.variables[order_rows.AS_ORDERED] = [target.id, target.state, target.owner_id]
    process.step = OPEN
    return order


def fail(turn: Turn, error: InlayError) -> None:
    """End a process badly where it stands; what it has changed already has to be put right by the caller."""
    turn.process.error = order_rows.as_json(error)
    turn.process.state = states.PROCESS.check(ProcessState(turn.process.state), ProcessState.FAILED).value


def refuse(turn: Turn) -> None:
    """The second person doesn't agree: the process ends where it stands."""
    fail(turn, InlayError("approval_refused"))
