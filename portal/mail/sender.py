"""Sends what the outbox holds, one mail after the other over one connection.

A try is counted on disk before the mail goes out, and the row goes when the server has answered. Whoever kills the
portal between the two makes it send the mail a second time, with the same ``Message-ID``; none is lost, and none is
sent without end.
"""

from __future__ import annotations

import email.policy
import logging
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from portal.events import MAILS
from portal.mail import outbox
from portal.mail.smtp import Connection, MailTroubleError
from portal.model.states import UserState
from portal.store.mail_tables import Mail
from portal.store.tables import User
from protocol.errors import InlayError

if TYPE_CHECKING:
    from portal.mail.smtp import MailServer
    from portal.processes.context import Context

_LOG = logging.getLogger(__name__)
_FIRST_WAIT: Final = 60
_LONGEST_WAIT: Final = 4 * 3600
MOST_TRIES: Final = 24
"""About three days: the wait doubles from one minute to four hours."""
_AT_ONCE: Final = 50
"""Mails over one connection."""


class MailSender:
    """See ``portal.processes.alarm.Work``.

    Args:
        context: the portal's parts.
        server: where mails go; None: nothing is sent, and what waits goes on waiting.
    """

    topic = MAILS

    def __init__(self, context: Context, server: MailServer | None) -> None:
        self._context = context
        self._server = server

    async def next_due(self) -> int | None:
        """When the next mail is tried, or is too late."""
        tried = select(func.min(Mail.next_try_at)).where(Mail.state == outbox.WAITING)
        async with self._context.database.read() as tx:
            late: int | None = await tx.scalar(select(func.min(Mail.until)))
            next_try: int | None = None if self._server is None else await tx.scalar(tried)
        return min((at for at in (late, next_try) if at is not None), default=None)

    async def run_due(self) -> None:
        """Take out what is too late, and send what is due."""
        await self._end_late()
        if self._server is None:
            return
        while due := await self._due():
            await self._send_all(self._server, due)

    async def _due(self) -> list[str]:
        query = select(Mail.id).where(Mail.state == outbox.WAITING, Mail.next_try_at <= self._context.clock())
        async with self._context.database.read() as tx:
            return list(await tx.scalars(query.order_by(Mail.next_try_at, Mail.id).limit(_AT_ONCE)))

    async def _end_late(self) -> None:
        """What is too late is forgotten; that a secret never came stays to be seen, without the secret."""
        now = self._context.clock()
        async with self._context.database.write() as tx:
            for mail in list(await tx.scalars(select(Mail).where(Mail.until <= now).with_for_update())):
                mail.last_error = outbox.TOO_LATE
                await outbox.note(tx, mail, "mail.refused", "portal", now)
                if mail.secret:
                    mail.state, mail.sealed, mail.until = outbox.REFUSED, None, None
                else:
                    await tx.delete(mail)

    async def _send_all(self, server: MailServer, due: list[str]) -> None:
        connection = Connection(server, self._context.portal.partition(":")[0])
        try:
            await connection.open()
        except MailTroubleError as trouble:
            _LOG.warning("the mail server can't be used (%s)", trouble.word)
            for mail_id in due:
                if await self._begin(mail_id) is not None:
                    await self._failed(mail_id, trouble)
            return
        try:
            for mail_id in due:
                if not connection.is_open:
                    return  # the rest is still due, over a new one
                mail = await self._begin(mail_id)
                if mail is not None:
                    await self._send(connection, server, mail)
        finally:
            await connection.close()

    async def _begin(self, mail_id: str) -> Mail | None:
        """Count a try before it is made.

        None: it was sent, dropped or taken by another run meanwhile, or it is a secret of somebody who was shut out
        since: that one waits for an administrator.
        """
        now = self._context.clock()
        async with self._context.database.write() as tx:
            mail = await tx.get(Mail, mail_id, with_for_update=True)
            if mail is None or mail.state != outbox.WAITING or mail.next_try_at > now:
                return None
            if mail.secret and (await tx.get_one(User, mail.user_id)).state != UserState.ACTIVE:
                mail.state, mail.last_error = outbox.REFUSED, outbox.PERSON
                await outbox.note(tx, mail, "mail.refused", "portal", now)
                return None
            mail.tries += 1
            mail.next_try_at = now + min(_FIRST_WAIT * 2 ** min(mail.tries - 1, 20), _LONGEST_WAIT)
            return mail

    async def _send(self, connection: Connection, server: MailServer, mail: Mail) -> None:
        try:
            await connection.hand_over(self._written(server, mail), mail.address)
        except MailTroubleError as trouble:
            await self._failed(mail.id, trouble)
        except InlayError as error:  # the keys are away, or are others than those that sealed it
            await self._failed(mail.id, MailTroubleError(error.code, for_good=error.code == "internal"))
        except (
            ValueError,
            MessageError,
        ):  # stored by an older version, which let through what no header can hold
            await self._failed(mail.id, MailTroubleError(outbox.BAD_ADDRESS, for_good=True))
        else:
            await self._sent(mail)

    def _written(self, server: MailServer, mail: Mail) -> EmailMessage:
        message = EmailMessage(policy=email.policy.SMTP)
        message["From"] = Address(server.name, addr_spec=server.sender)
        message["To"] = Address(addr_spec=mail.address)
        message["Subject"] = mail.subject
        message["Date"] = formatdate(mail.created_at)
        message["Message-ID"] = mail.message_id
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answers it
        message.set_content(self._text(mail), charset="utf-8")
        return message

    def _text(self, mail: Mail) -> str:
        if mail.sealed is None:
            return mail.plain or ""
        text = self._context.keys.unseal(mail.sealed, outbox.label(mail.id))
        try:
            return text.decode()
        finally:
            text[:] = bytes(len(text))

    async def _failed(self, mail_id: str, trouble: MailTroubleError) -> None:
        now = self._context.clock()
        async with self._context.database.write() as tx:
            mail = await tx.get(Mail, mail_id, with_for_update=True)
            if mail is None:
                return
            mail.last_error = trouble.word
            if trouble.for_good or mail.tries >= MOST_TRIES:
                mail.state = outbox.REFUSED
                await outbox.note(tx, mail, "mail.refused", "portal", now)
        _LOG.warning("mail %s was not sent (%s)", mail_id, trouble.word)

    async def _sent(self, mail: Mail) -> None:
        """It is sent, and so is a row that was dropped or given up while it went out."""
        async with self._context.database.write() as tx:
            row = await tx.get(Mail, mail.id, with_for_update=True)
            if row is not None:
                await tx.delete(row)
            await outbox.note(tx, mail, "mail.sent", "portal", self._context.clock())
