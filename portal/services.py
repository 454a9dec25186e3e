"""The seam between the portal's pages and the rest of it: everything a page may ask for.

All calls raise ``protocol.errors.InlayError`` or ``portal.errors.PortalError``; nothing else is for a person.
Role and required state are checked by each call, whatever the page has shown before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from portal.views import (
        CardView,
        CodeView,
        LetterView,
        Login,
        NumberResult,
        ObjectRef,
        OptionsView,
        PortalInfo,
        ProcessView,
        Session,
        Startable,
        Waiting,
    )
    from protocol.messages import PageEvent

NO_FORM: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})
"""What a page sends for a step without a form."""


class Services(Protocol):
    """What pages may ask for."""

    @property
    def info(self) -> PortalInfo:
        """The portal's name, origin and root key fingerprint."""

    async def login(self, email: str, password: str, address: str) -> Login:
        """Log in; always makes a new session.

        Raises:
            LoginRefused: wrong address or password.
            InlayError: ``rate_limited``.
        """

    async def session(self, token: str) -> Session | None:
        """The session of a cookie's value; None when unknown or expired."""

    async def logout(self, session: Session) -> None:
        """End the session."""

    async def dashboard(self, session: Session) -> Sequence[Startable]:
        """The processes of the Self-Service start page."""

    async def possible(self, session: Session, ref: ObjectRef) -> Sequence[Startable]:
        """The processes that this person's roles know for an object; ``refused`` says why one can't be started now.

        Raises:
            NotFound: no such object.
        """

    async def waiting(self, session: Session) -> Sequence[Waiting]:
        """Processes of others that wait for this person's agreement, oldest first."""

    async def start_process(self, session: Session, name: str, ref: ObjectRef | None = None) -> ProcessView:
        """Start a process; one that this person has running on the same object is taken up.

        Raises:
            NotFound: no such process, or no such object for it.
            Forbidden: the role is missing.
            WrongState: object or person is in a state that won't do; names those that would.
            SwitchedOff: an administrator has switched it off.
            InlayError: ``user_not_active``.
        """

    async def process(self, session: Session, process_id: str) -> ProcessView:
        """A process of this user, or one that waits or waited for this user's agreement.

        Raises:
            NotFound: no such process, or not open to this user.
        """

    async def next(
        self,
        session: Session,
        process_id: str,
        expected_version: int,
        form: Mapping[str, Sequence[str]] = NO_FORM,
    ) -> ProcessView:
        """Go on to the next step. Sent twice, it does its work once and answers the same.

        Args:
            session: who asks.
            process_id: the process.
            expected_version: ``ProcessView.version`` of the page that was sent.
            form: the fields of ``ProcessView.form`` as the page sends them.

        Raises:
            NotFound: no such process, or not open to this user.
            StalePage: the page is older than the process.
            WrongState: the step isn't complete, the process has ended, or object or person is in a state that
                won't do; names those that would.
            FieldErrors: a field of the form to what is wrong with it.
            Forbidden: the role is missing.
            SecondPerson: somebody else has to take this step.
            InlayError: ``user_not_active``.
        """

    async def letter(self, session: Session, process_id: str, kind: str) -> bytes:
        """Print a letter of a process, for who started it; counted, and in the audit log, before it is shown.

        Args:
            session: who asks.
            process_id: the process.
            kind: ``pin`` or ``puk``.

        Returns:
            PDF.

        Raises:
            NotFound: no such process, or somebody else's.
            Forbidden: the role is missing.
            InlayError: ``letter_gone``, ``letter_used_up``, ``user_not_active``.
        """

    async def cancel(self, session: Session, process_id: str) -> ProcessView:
        """Cancel: nothing is left valid. A process that was cancelled before stays as it is.

        Raises:
            NotFound: no such process, or another user's.
            WrongState: it has finished, or can't be stopped any more.
        """

    async def new_code(self, session: Session, process_id: str) -> CodeView:
        """Make a fresh code for the order of the step *open*; codes made before end.

        Raises:
            NotFound: no such process, or another user's.
            WrongState: the process isn't at that step.
            InlayError: ``binding_refused``: a running order belongs to another browser session; ``rate_limited``.
        """

    async def enter_number(self, session: Session, process_id: str, number: str) -> NumberResult:
        """Enter the number that the agent shows. The third wrong one undoes the order.

        Raises:
            NotFound: no such process, or another user's.
            WrongState: no number is wanted.
            InlayError: ``binding_refused``: another browser session; ``number_wrong``: the third wrong one.
        """

    async def complete(self, session: Session, process_id: str, completion: str) -> None:
        """Hand over the completion secret that the agent gave the page. A wrong one undoes the order.

        Raises:
            NotFound: no such process, or another user's.
            WrongState: none is wanted.
            InlayError: ``binding_refused``: another browser session, or a wrong secret.
        """

    def events(self, session: Session, process_id: str) -> AsyncIterator[PageEvent]:
        """Where the order stands, now and after each change; ends with the order.

        Raises:
            NotFound: no such process, or another user's (at the first step of the iteration).
        """

    def letters(self, session: Session, process_id: str) -> AsyncIterator[Sequence[LetterView]]:
        """The letters that a process may print, now and after each change; ends with them.

        Raises:
            NotFound: no such process, or not open to this user (at the first step of the iteration).
        """

    async def cards(self, session: Session) -> Sequence[CardView]:
        """The user's virtual smart cards, newest first."""

    async def ticket(self, session: Session) -> str:
        """A session ticket for reading (compact JWS), at most five minutes and the session's end.

        Raises:
            InlayError: ``rate_limited``: this session has asked for too many.
        """

    async def options(self, session: Session, script: str) -> OptionsView:
        """The options of a script.

        Raises:
            Forbidden: not an administrator.
            NotFound: no such script.
        """

    async def save_options(
        self, session: Session, script: str, expected_version: int, form: Mapping[str, Sequence[str]]
    ) -> OptionsView:
        """Save options as a form sends them: option name to its values (none for an unticked box).

        Raises:
            Forbidden: not an administrator.
            NotFound: no such script.
            StalePage: saved by somebody else meanwhile.
            FieldErrors: an option name to what is wrong with it.
        """
