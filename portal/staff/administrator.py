"""What the administrator's pages may ask for. Every call checks role and account itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from portal import option_store
from portal.accounts import user_view
from portal.errors import NotFound
from portal.mail import outbox
from portal.model.states import Role
from portal.processes import ca_changes
from portal.rate_limits import RateLimit
from portal.staff import audit_search, people
from portal.staff.access import require
from portal.staff.objects import TITLES
from portal.staff.views import (
    Graph,
    MailsView,
    OptionChange,
    OptionHistory,
    OptionVersion,
    QueueView,
    ScriptSummary,
    Verdict,
)
from portal.store import audit, audit_check
from portal.store.database import model_of
from portal.store.tables import User
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portal.accounts import Accounts
    from portal.model.options import Option, OptionValue
    from portal.option_store import Saved
    from portal.processes.context import Context
    from portal.staff.views import AuditPage
    from portal.views import Session, UserView

_QUEUE_PAGE: Final = 50
_MOST_VERSIONS: Final = 100
_VERIFICATIONS: Final = (6, 600)
_RETRIES: Final = (6, 60)
_MAIL_RETRIES: Final = (30, 60)
_FAULTS_KEPT: Final = 20
"""Of what a check of the audit log found, so many are written to it."""


class Administrator:
    """Options and their history, state graphs, what waits for the CA, the audit log, accounts.

    All of its calls raise ``Forbidden`` without the role, and ``InlayError`` (``user_not_active``).
    """

    def __init__(self, context: Context, accounts: Accounts) -> None:
        self._context = context
        self._accounts = accounts
        self._verifying = asyncio.Lock()
        self._verifications = RateLimit(*_VERIFICATIONS, context.clock)
        self._retries = RateLimit(*_RETRIES, context.clock)
        self._mail_retries = RateLimit(*_MAIL_RETRIES, context.clock)

    # --- options ---

    async def scripts(self, session: Session) -> Sequence[ScriptSummary]:
        """All scripts, each with who saved it last."""
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.read() as tx:
            saved = {name: await option_store.current(tx, name) for name in option_store.SCRIPTS}
        return [
            ScriptSummary(
                name,
                script.title,
                saved[name].version,
                saved[name].saved_by,
                saved[name].saved_at,
                name in option_store.UNREAD,
            )
            for name, script in option_store.SCRIPTS.items()
        ]

    async def option_history(self, session: Session, script: str) -> OptionHistory:
        """A script's versions, newest first, each with what it changed.

        Raises:
            NotFound: no such script.
        """
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.read() as tx:
            found = await option_store.versions(tx, script, _MOST_VERSIONS + 1)
        described = option_store.script_of(script)
        first = option_store.Saved(0, described.defaults())
        older = [*found[1:], *([first] if len(found) <= _MOST_VERSIONS else [])]
        known = {option.name: option for option in described.options}
        shown = [_version(saved, before, known) for saved, before in zip(found, older, strict=False)]
        return OptionHistory(script, described.title, shown)

    async def graphs(self, session: Session) -> Sequence[Graph]:
        """The state graphs that this portal runs with."""
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.read() as tx:
            found = model_of(tx).graphs
        return [Graph(name, TITLES.get(name, f"Certificate: {name}"), graph) for name, graph in found.items()]

    # --- the CA's queue ---

    async def queue(self, session: Session, after: str = "") -> QueueView:
        """What waits for the CA; ``after`` is the last certificate of the page before."""
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.read() as tx:
            summary = await ca_changes.summary(tx)
            waiting = await ca_changes.waiting(tx, _QUEUE_PAGE + 1, after)
        shown = waiting[:_QUEUE_PAGE]
        return QueueView(summary, shown, shown[-1].certificate_id if len(waiting) > _QUEUE_PAGE else "")

    async def retry(self, session: Session) -> int:
        """Have the CA asked for all of it now; tells how much was put forward.

        Raises:
            InlayError: ``rate_limited``.
        """
        require(session, Role.ADMINISTRATOR)
        self._retries.take(session.user.id)
        async with self._context.database.write() as tx:
            return await ca_changes.retry_now(tx, session.user.email, self._context.clock())

    # --- mails ---

    async def mails(self, session: Session, after: str = "") -> MailsView:
        """Mails that aren't sent; ``after`` is the last one of the page before."""
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.read() as tx:
            summary = await outbox.summary(tx)
            found = await outbox.unsent(tx, _QUEUE_PAGE + 1, after)
        shown = found[:_QUEUE_PAGE]
        following = shown[-1].id if len(found) > _QUEUE_PAGE else ""
        return MailsView(summary, shown, self._context.mails, following)

    async def retry_mail(self, session: Session, mail_id: str) -> None:
        """Have a mail tried again now.

        Raises:
            NotFound: it was sent or given up meanwhile.
            InlayError: ``rate_limited``.
        """
        require(session, Role.ADMINISTRATOR)
        self._mail_retries.take(session.user.id)
        async with self._context.database.write() as tx:
            await outbox.retry(tx, mail_id, session.user.email, self._context.clock())

    async def give_up_mail(self, session: Session, mail_id: str) -> None:
        """Forget a mail.

        Raises:
            NotFound: it was sent or given up meanwhile.
        """
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.write() as tx:
            await outbox.give_up(tx, mail_id, session.user.email, self._context.clock())

    # --- the audit log ---

    async def audit(self, session: Session, sent: Mapping[str, str], before: int = 0) -> AuditPage:
        """A page of the log; see ``audit_search.page``.

        Raises:
            FieldErrors: a field's name to what is wrong with it.
        """
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.read() as tx:
            return await audit_search.page(tx, sent, before)

    async def verify(self, session: Session) -> Verdict:
        """Check the log's whole chain, one check at a time; that it was checked, and the result, are logged.

        Raises:
            InlayError: ``rate_limited``.
        """
        require(session, Role.ADMINISTRATOR)
        if self._verifying.locked():
            raise InlayError("rate_limited")
        self._verifications.take(session.user.id)
        async with self._verifying, self._context.database.read() as tx:
            faults = [str(fault) for fault in await audit_check.faults(tx)]
            rows = (await audit.stored_head(tx) or (0, ""))[0]
        async with self._context.database.write() as tx:
            await audit.record(
                tx,
                at=self._context.clock(),
                actor=session.user.email,
                action="audit.verified",
                kind="audit",
                object_id="log",
                rows=rows,
                result="; ".join(faults[:_FAULTS_KEPT]) or "unbroken",
            )
        return Verdict(rows, faults)

    # --- accounts ---

    async def person(self, session: Session, user_id: str) -> tuple[UserView, str]:
        """An account, and the mark that its form sends back.

        Raises:
            NotFound: no such user.
        """
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.read() as tx:
            user = await tx.get(User, user_id)
            if user is None:
                raise NotFound("user")
            return user_view(user), people.mark_of(user)

    async def add_person(
        self, session: Session, form: Mapping[str, Sequence[str]], password: str
    ) -> UserView:
        """Make an account in state active.

        Raises:
            FieldErrors: a field to what is wrong with it.
        """
        require(session, Role.ADMINISTRATOR)
        email, name, roles = people.new_account(form, password)
        return await self._accounts.add(email, name, password, roles, session.user.email)

    async def change_person(
        self, session: Session, user_id: str, form: Mapping[str, Sequence[str]], shown: str
    ) -> None:
        """Change an account's roles and state; see ``people.change``.

        Raises:
            NotFound: no such user.
            FieldErrors: a field to what is wrong with it.
            StalePage: somebody changed it meanwhile.
        """
        require(session, Role.ADMINISTRATOR)
        async with self._context.database.write() as tx:
            await people.change(tx, user_id, form, shown, session.user.email, self._context.clock())


def _version(saved: Saved, before: Saved, known: Mapping[str, Option]) -> OptionVersion:
    changes = [
        _change(name, known.get(name), before.values.get(name), saved.values.get(name))
        for name in {**saved.values, **before.values}
        if _differ(before.values.get(name), saved.values.get(name))
    ]
    return OptionVersion(saved.version, saved.saved_by or "", saved.saved_at or 0, changes)


def _change(
    name: str, option: Option | None, before: OptionValue | None, after: OptionValue | None
) -> OptionChange:
    if option is None:
        return OptionChange(name, name, before, after, {})
    return OptionChange(option.title, name, before, after, option.captions)


def _differ(before: OptionValue | None, after: OptionValue | None) -> bool:
    return before != after
