"""One connection to the mail server that is configured (RFC 5321; STARTTLS by RFC 3207, TLS by RFC 8314).

No mail and no password goes out before the connection is encrypted and the server's certificate is checked. What goes
wrong is one word for the store, a log and a page; nothing that the server says in its own words gets on.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import aiosmtplib

if TYPE_CHECKING:
    from email.message import EmailMessage

_ENHANCED: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mails are handed over.

    Attributes:
        security: ``starttls``, or ``tls`` from the first byte.
        sender: address that mails come from.
        name: of the sender, for people.
        tls: checks the server's certificate and name.
        user: to log in with; None: no log-in.
        password: the same.
        seconds: how long connecting, and handing over one mail, may take.
    """

    host: str
    port: int
    security: Literal["starttls", "tls"]
    sender: str
    name: str
    tls: ssl.SSLContext
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    seconds: float = 30


class MailTroubleError(Exception):
    """A mail wasn't accepted.

    Attributes:
        word: ``unavailable``, ``certificate``, ``tls``, ``login``, ``timeout`` or ``cut``; of the server's answers
            ``connection``, ``sender``, ``recipient`` or ``content`` with its code, for example ``recipient 550 5.1.1``.
        for_good: it is refused for good (RFC 5321, section 4.2.1: 5xx), and is not tried again by itself.
    """

    def __init__(self, word: str, *, for_good: bool = False) -> None:
        super().__init__(word)
        self.word = word
        self.for_good = for_good


class Connection:
    """A connection that mails are handed over by.

    Args:
        server: where to.
        local_name: what the portal calls itself.
    """

    def __init__(self, server: MailServer, local_name: str) -> None:
        self._server = server
        self._client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            local_hostname=local_name,
            timeout=server.seconds,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=server.tls,
        )

    @property
    def is_open(self) -> bool:
        """Whether another mail can be handed over."""
        return self._client.is_connected

    async def open(self) -> None:
        """Connect, encrypt, log in.

        Raises:
            MailTroubleError: none of it is for good: it is not the mails' fault.
        """
        server = self._server
        try:
            async with asyncio.timeout(server.seconds):
                await self._client.connect()
                if server.user is not None and server.password is not None:
                    await self._client.login(server.user, server.password)
        except Exception as error:
            self._client.close()
            raise MailTroubleError(_connecting(error)) from None

    async def hand_over(self, message: EmailMessage, address: str) -> None:
        """Hand one mail over; when this returns the server has it.

        Raises:
            MailTroubleError: it doesn't.
        """
        try:
            async with asyncio.timeout(self._server.seconds):
                await self._client.sendmail(self._server.sender, [address], message.as_bytes())
        except aiosmtplib.SMTPRecipientsRefused as refused:
            first = refused.recipients[0]
            raise _answer("recipient", first.code, first.message) from None
        except aiosmtplib.SMTPSenderRefused as refused:
            raise _answer("sender", refused.code, refused.message) from None
        except aiosmtplib.SMTPResponseException as refused:
            raise _answer("content", refused.code, refused.message) from None
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            self._client.close()  # what comes late would be taken for the answer to the next mail
            raise MailTroubleError("timeout") from None
        except (OSError, aiosmtplib.SMTPException):
            self._client.close()
            raise MailTroubleError("cut") from None

    async def close(self) -> None:
        """Say good-bye if the server still listens."""
        if self._client.is_connected:
            with contextlib.suppress(OSError, TimeoutError, aiosmtplib.SMTPException):
                async with asyncio.timeout(self._server.seconds):
                    await self._client.quit()
        self._client.close()


def _connecting(error: Exception) -> str:
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return "certificate"
    match error:
        case aiosmtplib.SMTPAuthenticationError():
            return "login"
        case aiosmtplib.SMTPResponseException():
            return f"connection {error.code}"
        case TimeoutError():
            return "timeout"
        case _ if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return "tls"
        case aiosmtplib.SMTPServerDisconnected():
            return "cut"
        case aiosmtplib.SMTPConnectError() | OSError():
            return "unavailable"
        case _:  # no STARTTLS, no way to log in
            return "tls" if "STARTTLS" in str(error) else "login"


def _answer(where: str, code: int, text: str) -> MailTroubleError:
    """Of the server's answer the two codes alone (RFC 5321 and RFC 3463)."""
    enhanced = _ENHANCED.match(text)
    word = f"{where} {code}" + (f" {enhanced.group()}" if enhanced else "")
    return MailTroubleError(word, for_good=500 <= code < 600)
