"""Mails that wait to be sent: stored in the transaction that makes what they tell about, gone when they were sent.

A mail with a secret has its text sealed, until it is sent, given up, dropped with its card, or too late. What is
refused for good, or was tried too often, stays for an administrator, who has it tried again or gives it up.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from sqlalchemy import func, select

from portal.errors import NotFound
from portal.events import MAILS
from portal.mail.addresses import usable
from portal.store import audit
from portal.store.database import notify
from portal.store.mail_tables import Mail
from portal.store.tables import AuditEntry

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.model.objects import CoreObject
    from portal.processes.context import Context
    from portal.store.tables import User

WAITING: Final = "waiting"
REFUSED: Final = "refused"
BAD_ADDRESS: Final = "address"
TOO_LATE: Final = "too_late"
PERSON: Final = "person"
"""What it tells is a secret, and its person may not have it any more."""
_MOST_SUBJECT: Final = 200
_ENDS: Final = ("mail.sent", "mail.dropped", "mail.given_up")
Standing = Literal["waiting", "sent", "failed"]
"""``failed``: refused, too late, given up or dropped; who should have got it has not."""


class Summary(NamedTuple):
    """How many mails aren't sent.

    Attributes:
        waiting: tried again by themselves.
        refused: wait for an administrator.
        oldest: since when the oldest of both is there; None when there is none.
    """

    waiting: int
    refused: int
    oldest: int | None


class Draft(NamedTuple):
    """A mail that is to be sent.

    Attributes:
        to: whom to.
        kind: a word for the audit log and for ``drop``.
        subject: one line of printable characters, at most 200.
        text: what it says.
        about: the object it is about.
        secret: its text is sealed and never shown.
        until: when it is too late to send it.
    """

    to: User
    kind: str
    subject: str
    text: str
    about: CoreObject
    secret: bool = False
    until: int | None = None

    def __repr__(self) -> str:
        return f"<Draft {self.kind}>"


class Unsent(NamedTuple):
    """A mail that isn't sent, without its text.

    Attributes:
        id: its id.
        address: to whom.
        kind: of mail.
        about_kind: kind of the object it is about.
        about_id: that object's id.
        subject: its subject.
        state: ``waiting`` or ``refused``.
        since: when it was made.
        tries: how often it was tried.
        next_try_at: when it is tried again.
        last_error: of the last try.
        readable: its text is still there.
    """

    id: str
    address: str
    kind: str
    about_kind: str
    about_id: str
    subject: str
    state: str
    since: int
    tries: int
    next_try_at: int
    last_error: str | None
    readable: bool


def label(mail_id: str) -> bytes:
    """Associated data of a mail's sealed text."""
    return b"inlay-mail\0" + mail_id.encode()


async def add(tx: AsyncSession, context: Context, draft: Draft) -> None:
    """Have a mail sent once the caller's writing transaction is committed.

    One to an address that can't be written to is kept as refused: what it tells about has happened all the same.

    Args:
        tx: a writing transaction.
        context: the portal's parts.
        draft: the mail.

    Raises:
        ValueError: the subject is none.
    """
    if not draft.subject.isprintable() or not 0 < len(draft.subject) <= _MOST_SUBJECT:
        raise ValueError("subject")
    key, now, good = secrets.token_hex(16), context.clock(), usable(draft.to.email)
    tx.add(
        Mail(
            id=key,
            message_id=f"<{key}@{context.portal.partition(':')[0]}>",
            user_id=draft.to.id,
            address=draft.to.email,
            kind=draft.kind,
            about_kind=draft.about.kind.value,
            about_id=draft.about.id,
            subject=draft.subject,
            secret=draft.secret,
            plain=None if draft.secret else draft.text,
            sealed=context.keys.seal(draft.text.encode(), label(key)) if draft.secret else None,
            state=WAITING if good else REFUSED,
            tries=0,
            last_error=None if good else BAD_ADDRESS,
            next_try_at=now,
            until=draft.until,
            created_at=now,
        )
    )
    await tx.flush()
    await note(tx, await tx.get_one(Mail, key), "mail.added" if good else "mail.refused", "portal", now)
    notify(tx, MAILS)


async def standing(tx: AsyncSession, about_id: str, kind: str) -> Standing:
    """How the mail of a kind about an object stands, of which there is one; a sent one is told by the audit log."""
    query = select(Mail.state).where(Mail.about_id == about_id, Mail.kind == kind)
    states = set(await tx.scalars(query))
    if states:
        return "waiting" if WAITING in states else "failed"
    ends = select(AuditEntry.action, AuditEntry.details).where(
        AuditEntry.object_id == about_id, AuditEntry.action.in_(_ENDS)
    )
    found = [
        action
        for action, details in await tx.execute(ends.order_by(AuditEntry.number))
        if details.get("mail") == kind
    ]
    return "sent" if found and found[-1] == "mail.sent" else "failed"


async def drop(tx: AsyncSession, context: Context, about_id: str, *kinds: str) -> None:
    """Forget the mails of some kinds about an object: what they say isn't so any more, or is nobody's to know."""
    query = select(Mail).where(Mail.about_id == about_id, Mail.kind.in_(kinds)).with_for_update()
    for mail in list(await tx.scalars(query)):
        await note(tx, mail, "mail.dropped", "portal", context.clock())
        await tx.delete(mail)


async def note(tx: AsyncSession, mail: Mail, action: str, actor: str, now: int) -> None:
    """Write into the audit log what becomes of a mail, with the object it is about."""
    details = {"error": mail.last_error} if action == "mail.refused" and mail.last_error else {}
    await audit.record(
        tx,
        at=now,
        actor=actor,
        action=action,
        kind=mail.about_kind,
        object_id=mail.about_id,
        mail=mail.kind,
        message_id=mail.message_id,
        to=mail.address,
        **details,
    )


async def summary(tx: AsyncSession) -> Summary:
    """How many mails aren't sent."""
    query = select(Mail.state, func.count(), func.min(Mail.created_at)).group_by(Mail.state)
    rows = {state: (count, oldest) for state, count, oldest in await tx.execute(query)}
    return Summary(
        rows.get(WAITING, (0, None))[0],
        rows.get(REFUSED, (0, None))[0],
        min((oldest for _, oldest in rows.values()), default=None),
    )


async def unsent(tx: AsyncSession, limit: int, after: str = "") -> list[Unsent]:
    """Mails that aren't sent, by id.

    Args:
        tx: a transaction.
        limit: how many at the most.
        after: the last id of the page before.
    """
    query = select(Mail).where(Mail.id > after).order_by(Mail.id).limit(limit)
    return [
        Unsent(
            mail.id,
            mail.address,
            mail.kind,
            mail.about_kind,
            mail.about_id,
            mail.subject,
            mail.state,
            mail.created_at,
            mail.tries,
            mail.next_try_at,
            mail.last_error,
            mail.plain is not None or mail.sealed is not None,
        )
        for mail in await tx.scalars(query)
    ]


async def retry(tx: AsyncSession, mail_id: str, actor: str, now: int) -> None:
    """Have one tried now, and as often as a new one.

    Raises:
        NotFound: it was sent or given up meanwhile, or its text is erased.
    """
    mail = await tx.get(Mail, mail_id, with_for_update=True)
    if mail is None or (mail.plain is None and mail.sealed is None):
        raise NotFound("mail")
    mail.state, mail.tries, mail.next_try_at = WAITING, 0, now
    if not usable(mail.address):
        mail.state = REFUSED
    await note(tx, mail, "mail.retry_asked", actor, now)
    notify(tx, MAILS)


async def give_up(tx: AsyncSession, mail_id: str, actor: str, now: int) -> None:
    """Forget one; it isn't sent.

    Raises:
        NotFound: it was sent or given up meanwhile.
    """
    mail = await tx.get(Mail, mail_id, with_for_update=True)
    if mail is None:
        raise NotFound("mail")
    await note(tx, mail, "mail.given_up", actor, now)
    await tx.delete(mail)
