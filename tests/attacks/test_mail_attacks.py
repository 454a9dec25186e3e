"""Attacks on mails with PIN and PUK: addresses that become headers, plain text before TLS, people who are shut out."""

from __future__ import annotations

import asyncio
import contextlib
import email.policy
import logging
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from portal.config import Config
from portal.config import Mail as MailConfig
from portal.mail import outbox
from portal.mail.addresses import usable
from portal.mail.sender import MailSender
from portal.model.objects import CoreObject, ObjectKind
from portal.model.states import UserState
from portal.store.tables import AuditEntry, Mail, User
from tests.support import issued_cards as cards
from tests.support.certificates import ThrowAwayCA
from tests.support.mail_server import MailServer, mail_server
from tests.support.portal_kit import running_portal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.portal_kit import Kit

AWAY = MailConfig(host="127.0.0.1", port=1, sender="portal@example.org")
SECRET = "283917"


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    """A portal that may send mails; the test alone sends them."""
    async with running_portal(tmp_path, mail=AWAY) as running:
        await running.portal.pause()
        yield running


@pytest.fixture
def ca(tmp_path: Path) -> ThrowAwayCA:
    (tmp_path / "tls").mkdir()
    return ThrowAwayCA(tmp_path / "tls")


@pytest.fixture
async def server(ca: ThrowAwayCA) -> AsyncIterator[MailServer]:
    async with mail_server(ca) as running:
        yield running


def sender_to(kit: Kit, port: int, ca: ThrowAwayCA) -> MailSender:
    mail = MailConfig(
        host="127.0.0.1", port=port, sender="portal@example.org", ca_file=str(ca.ca_file), seconds=5
    )
    config = Config(origin="https://portal.test", name="Example portal", database="", key_file="", mail=mail)
    return MailSender(kit.portal.context, config.mail_server())


async def put(kit: Kit, who: str = "ada@example.org", address: str | None = None) -> None:
    """A mail with a secret; to an address that somebody has written into the database, where one is given."""
    async with kit.database.write() as tx:
        user = (await tx.scalars(select(User).where(User.email == who))).one()
        await outbox.add(
            tx,
            kit.portal.context,
            outbox.Draft(
                to=user,
                kind="card_pin",
                subject="PIN of your card",
                text=f"The PIN is {SECRET}\n",
                about=CoreObject(ObjectKind.USER, user.id),
                secret=True,
            ),
        )
        if address is not None:
            await tx.execute(text("UPDATE mails SET address = :address"), {"address": address})


async def rows(kit: Kit) -> list[tuple[str, str | None]]:
    async with kit.database.read() as tx:
        return [(row.state, row.last_error) for row in await tx.scalars(select(Mail).order_by(Mail.kind))]


# --- addresses


_ENCODED = "=?utf-8?q?x=0D=0ABcc=3A_eve=40evil.test?=@example.org"


@pytest.mark.parametrize("address", [_ENCODED, "=?utf-8?b?DQpCY2M6IGE=?=@example.org", "=?x?q?a?=@b.org"])
def test_an_encoded_word_is_no_address(address: str) -> None:
    assert not usable(address)


@given(st.text("ab.@=?!#$%&'*+/^_`{|}~-0\r\n<>\",;: ", max_size=20).map("{}@b.org".format))
def test_an_address_that_is_taken_stands_in_the_header_as_it_is(address: str) -> None:
    if not usable(address):
        return
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["To"] = email.headerregistry.Address(addr_spec=address)
    read = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert [item.addr_spec for item in read["To"].addresses] == [address]
    assert set(read.keys()) == {"To"}


async def test_a_mail_that_cant_be_written_keeps_no_other_one_waiting(
    kit: Kit, server: MailServer, ca: ThrowAwayCA
) -> None:
    """An older version let such an address through, and whoever can write the database still could."""
    for name in ("ada", "bob"):
        await kit.person(f"{name}@example.org")
    await put(kit, address=_ENCODED)
    await put(kit, "bob@example.org")
    await sender_to(kit, server.port, ca).run_due()
    assert (await rows(kit), len(server.mails)) == ([("refused", "address")], 1)


# --- the way to the server


async def test_what_a_proxy_says_before_tls_counts_for_nothing(
    kit: Kit, server: MailServer, ca: ThrowAwayCA
) -> None:
    """STARTTLS is answered with more than was asked for: plain text, to be taken for later words."""
    await kit.person()
    await put(kit)
    tasks: set[asyncio.Task[None]] = set()

    async def carry(near: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, added: bytes) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(4096):
                    if added and data.startswith(b"220 ") and b"TLS" in data:
                        data += added
                    target.write(data)
                    await target.drain()
            target.close()

        accepted = (
            b"250 mail.test\r\n250 2.1.0 sender\r\n250 2.1.5 recipient\r\n354 go on\r\n250 2.0.0 accepted\r\n"
        )
        for job in (pump(near, writer, b""), pump(reader, far, accepted)):
            tasks.add(asyncio.create_task(job))

    proxy = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        await sender_to(kit, proxy.sockets[0].getsockname()[1], ca).run_due()
    finally:
        proxy.close()
        await asyncio.gather(*tasks)
    # either the connection is given up, or the server has the mail: never taken for sent without it
    assert (len(server.mails) == 1) == (await rows(kit) == [])


@pytest.mark.parametrize("answer", [f"550 {SECRET}", f"451 4.7.1 {SECRET}", "cut"])
async def test_whatever_the_server_says_the_secret_is_in_no_log_and_no_row(
    kit: Kit, server: MailServer, ca: ThrowAwayCA, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    caplog.set_level(logging.DEBUG)
    await kit.person()
    await put(kit)
    server.answers = [answer]
    await sender_to(kit, server.port, ca).run_due()
    ours = [
        record for record in caplog.records if record.name.startswith(("portal", "aiosmtplib", "asyncio"))
    ]
    assert SECRET not in repr([(record.getMessage(), record.args) for record in ours])
    async with kit.database.read() as tx:
        kept: list[Any] = [row.__dict__ for row in await tx.scalars(select(Mail))]
        kept += [row.__dict__ for row in await tx.scalars(select(AuditEntry))]
    assert SECRET not in repr(kept)


# --- whose it is by now


@pytest.mark.parametrize("state", [UserState.LOCKED, UserState.INACTIVE])
async def test_a_secret_of_who_is_shut_out_isnt_sent(
    kit: Kit, server: MailServer, ca: ThrowAwayCA, state: UserState
) -> None:
    """The reason may be that somebody else reads that mailbox. An administrator decides about what waits."""
    ada, sender = await kit.person(), sender_to(kit, server.port, ca)
    await put(kit)
    async with kit.database.write() as tx:
        (await tx.get_one(User, ada.user.id)).state = state.value
    await sender.run_due()
    assert (await rows(kit), server.mails) == ([("refused", "person")], [])
    async with kit.database.write() as tx:
        mail = (await tx.scalars(select(Mail))).one()
        await outbox.retry(tx, mail.id, "root@example.org", kit.clock())
    await sender.run_due()
    assert (await rows(kit), server.mails) == ([("refused", "person")], [])
    async with kit.database.write() as tx:
        (await tx.get_one(User, ada.user.id)).state = UserState.ACTIVE.value
        await outbox.retry(tx, mail.id, "root@example.org", kit.clock())
    await sender.run_due()
    assert (await rows(kit), len(server.mails)) == ([], 1)
    assert SECRET in message_from_bytes(server.mails[0]).as_string()


async def test_a_pin_that_was_proved_is_sent_no_more(kit: Kit) -> None:
    """The server has taken it and its answer got lost: it would be sent again, for days."""
    people, ada = await cards.staff(kit), await kit.person()
    await cards.options(kit, people.root, CardsPINDelivery=["email"], CardsPUKDelivery=["email"])
    card, work = await cards.issued(kit, people, ada)
    assert len(await rows(kit)) == 2
    await cards.activate(kit, ada, card, work)
    async with kit.database.read() as tx:
        assert list(await tx.scalars(select(Mail.kind))) == ["card_puk"]
