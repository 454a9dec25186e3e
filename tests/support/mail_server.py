"""A real SMTP server on loopback that answers as a test says."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, AuthResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiosmtpd.smtp import Envelope, Session

    from tests.support.certificates import ThrowAwayCA


class MailServer:
    """A running server.

    Attributes:
        answers: to the next mails, one each; ``cut`` cuts the connection. Without one a mail is accepted.
        mails: what was accepted.
        arrived: set once a mail was accepted.
        commands: what was asked for at first, STARTTLS or MAIL.
    """

    def __init__(self, ca: ThrowAwayCA) -> None:
        self.ca = ca
        self.port = 0
        self.answers: list[str] = []
        self.mails: list[bytes] = []
        self.commands: list[str] = []
        self.arrived = asyncio.Event()
        self.server: asyncio.Server | None = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """The end of a mail."""
        answer = self.answers.pop(0) if self.answers else "250 2.0.0 accepted"
        if answer == "cut":
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(envelope.content)
            self.arrived.set()
        return answer

    def handle_STARTTLS(self, server: SMTP, session: Session, envelope: Envelope) -> bool:
        """Encryption is asked for."""
        return True

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        """A mail begins."""
        self.commands.append("MAIL")
        envelope.mail_from = address
        return "250 OK"

    async def stop(self) -> None:
        """Nobody listens any more."""
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()
            self.server = None


class _Smtp(SMTP):
    async def smtp_STARTTLS(self, arg: str) -> None:
        if isinstance(self.event_handler, MailServer):
            self.event_handler.commands.append("STARTTLS")
        await super().smtp_STARTTLS(arg)


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _way: str, data: Any) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"portal", b"right"), handled=False)


@asynccontextmanager
async def mail_server(
    ca: ThrowAwayCA, *, plain: bool = False, tls: bool = False
) -> AsyncIterator[MailServer]:
    """A server with this CA's certificate, that takes nothing before STARTTLS; a plain one, or TLS from the first byte.

    It takes the user "portal" with the password "right".
    """
    running, context = MailServer(ca), ca.server_context()

    def made() -> SMTP:
        return _Smtp(
            running,
            tls_context=None if plain or tls else context,
            require_starttls=not (plain or tls),
            authenticator=_authenticate,
            auth_require_tls=not tls,
            loop=asyncio.get_running_loop(),
        )

    running.server = await asyncio.get_running_loop().create_server(
        made, "127.0.0.1", 0, ssl=context if tls else None
    )
    running.port = running.server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        await running.stop()


@contextmanager
def mail_server_aside(ca: ThrowAwayCA) -> Iterator[MailServer]:
    """As `mail_server`, in a thread of its own; read what came, and wait for nothing of its loop's."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = mail_server(ca)
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
