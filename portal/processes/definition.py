"""What a process is: its steps, who may start it, and the work between the steps.

Instances are rows (``portal.store.tables.Process``): step, state and variables are all there is of one, so that it goes
on after a restart wherever it stood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.model.states import Role, UserState
    from portal.store.tables import Order, Process, User
    from portal.views import Session, StepView


class Definition(Protocol):
    """A process."""

    @property
    def name(self) -> str:
        """Symbolic name."""

    @property
    def title(self) -> str:
        """Name for people."""

    @property
    def description(self) -> str:
        """One sentence for the start page."""

    @property
    def role(self) -> Role:
        """Role that its user needs."""

    @property
    def user_state(self) -> UserState:
        """State that its user needs."""

    @property
    def steps(self) -> tuple[StepView, ...]:
        """All steps, in order; an instance begins at the first."""

    async def variables(self, tx: AsyncSession, user: User) -> dict[str, Any]:
        """The variables of a new instance: options are read here and never again."""

    async def advance(
        self, tx: AsyncSession, process: Process, order: Order | None, user: User, session: Session
    ) -> None:
        """Do the work of *Next* at the step where the process stands, and move it on.

        Raises:
            WrongState: the step isn't complete.
        """

    def can_next(self, process: Process, order: Order | None) -> bool:
        """Whether *Next* is possible."""

    def facts(self, process: Process) -> Mapping[str, str]:
        """Label to value, for the pages."""

    def cancel_effect(self, process: Process, order: Order | None) -> str:
        """What Cancel will do, one sentence."""
