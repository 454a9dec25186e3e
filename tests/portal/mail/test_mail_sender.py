"""Mails over a real SMTP server on loopback: refused, cut off, killed between; then sent, once."""

from __future__ import annotations

import asyncio
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from portal.config import Config, ConfigError
from portal.config import Mail as MailConfig
from portal.mail import outbox
from portal.mail.addresses import usable
from portal.mail.sender import MOST_TRIES, MailSender
from portal.model.objects import CoreObject, ObjectKind
from portal.store.tables import AuditEntry, Mail, User
from tests.support.certificates import ThrowAwayCA
from tests.support.databases import BACKENDS
from tests.support.mail_server import MailServer, mail_server
from tests.support.portal_kit import running_portal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.portal_kit import Kit


@pytest.fixture
def ca(tmp_path: Path) -> ThrowAwayCA:
    (tmp_path / "tls").mkdir()
    return ThrowAwayCA(tmp_path / "tls")


@pytest.fixture
async def server(ca: ThrowAwayCA) -> AsyncIterator[MailServer]:
    async with mail_server(ca) as running:
        yield running


@pytest.fixture
async def sender(kit: Kit, server: MailServer) -> MailSender:
    """Run by the test alone: the portal itself has no mail server."""
    await kit.person()
    return sender_to(kit, server.port, server.ca)


def sender_to(kit: Kit, port: int, ca: ThrowAwayCA, **changes: Any) -> MailSender:
    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "sender": "portal@example.org",
        "ca_file": str(ca.ca_file),
        "seconds": 5,
    }
    config = Config(
        origin="https://portal.test",
        name="Example portal",
        database="",
        key_file="",
        mail=MailConfig(port=port, **(settings | changes)),
    )
    return MailSender(kit.portal.context, config.mail_server())


async def put(kit: Kit, *, secret: bool = False, until: int | None = None, text: str = "Hello.\n") -> None:
    async with kit.database.write() as tx:
        user = (await tx.scalars(select(User).where(User.email == "ada@example.org"))).one()
        about = CoreObject(ObjectKind.USER, user.id)
        await outbox.add(
            tx,
            kit.portal.context,
            outbox.Draft(
                to=user,
                kind="test",
                subject="Test",
                text=text,
                about=about,
                secret=secret,
                until=until,
            ),
        )


async def rows(kit: Kit) -> list[Mail]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(Mail)))


async def actions(kit: Kit) -> list[str]:
    async with kit.database.read() as tx:
        return list(await tx.scalars(select(AuditEntry.action).where(AuditEntry.action.like("mail.%"))))


# --- refused


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ada",
        "a@b@c",
        "ada@example.org\r\nBcc: eve@example.org",
        "a b@c",
        '"a\\nb"@c.org',
        "Ada <a@b.org>",
        "a@b.org,c@d.org",
        "ä@b.org",
        "a@-b.org",
    ],
)
def test_addresses_that_could_become_something_else(address: str) -> None:
    assert not usable(address)


async def test_a_subject_that_could_become_a_header(kit: Kit) -> None:
    ada = await kit.person()
    async with kit.database.write() as tx:
        user = await tx.get_one(User, ada.user.id)
        for subject in ("Hello\r\nBcc: eve@example.org", "", "x" * 201):
            with pytest.raises(ValueError, match="subject"):
                await outbox.add(
                    tx,
                    kit.portal.context,
                    outbox.Draft(
                        to=user,
                        kind="test",
                        subject=subject,
                        text="",
                        about=CoreObject(ObjectKind.USER, user.id),
                    ),
                )
    assert await rows(kit) == []


async def test_a_certificate_of_somebody_else_gets_nothing(
    kit: Kit, server: MailServer, tmp_path: Path
) -> None:
    await kit.person()
    (tmp_path / "other").mkdir()
    await put(kit, secret=True, text="283917")
    stranger = sender_to(kit, server.port, ThrowAwayCA(tmp_path / "other"))
    await stranger.run_due()
    (row,) = await rows(kit)
    assert (row.state, row.last_error, row.tries, server.commands) == (
        "waiting",
        "certificate",
        1,
        ["STARTTLS"],
    )


async def test_a_server_without_starttls_gets_nothing(kit: Kit, ca: ThrowAwayCA) -> None:
    await kit.person()
    async with mail_server(ca, plain=True) as server:
        await put(kit)
        await sender_to(kit, server.port, ca).run_due()
        (row,) = await rows(kit)
        assert (row.last_error, server.commands) == ("tls", [])


async def test_a_server_that_is_away_is_tried_again_and_not_without_end(
    kit: Kit, server: MailServer, sender: MailSender
) -> None:
    await server.stop()
    await put(kit)
    for _ in range(MOST_TRIES):
        assert [row.state for row in await rows(kit)] == ["waiting"]
        await sender.run_due()
        kit.clock.now += 4 * 3600
    (row,) = await rows(kit)
    assert (row.state, row.last_error, row.tries) == ("refused", "unavailable", MOST_TRIES)
    assert await sender.next_due() is None


async def test_refused_for_good_it_stays_for_an_administrator(
    kit: Kit, server: MailServer, sender: MailSender
) -> None:
    await put(kit, secret=True, text="283917")
    server.answers = ["550 5.1.1 nobody here: 283917"]
    await sender.run_due()
    (row,) = await rows(kit)
    assert (row.state, row.last_error) == ("refused", "content 550 5.1.1")
    async with kit.database.write() as tx:
        await outbox.retry(tx, row.id, "root@example.org", kit.clock())
    await sender.run_due()
    assert (await rows(kit), len(server.mails)) == ([], 1)


async def test_a_secret_is_sealed_and_erased_when_it_is_too_late(kit: Kit, sender: MailSender) -> None:
    await put(kit, secret=True, until=kit.clock() + 60, text="283917")
    (row,) = await rows(kit)
    assert row.plain is None
    assert row.sealed is not None
    assert b"283917" not in row.sealed
    kit.clock.now += 60
    await sender.run_due()
    (row,) = await rows(kit)
    assert (row.state, row.last_error, row.sealed) == ("refused", "too_late", None)


@pytest.mark.parametrize(
    ("rights", "changes"),
    [
        (0o644, {"user": "portal", "password_file": True}),  # readable by everybody
        (0o600, {"user": "portal"}),
        (0o600, {"password_file": True}),
        (0o600, {"sender": "portal@example.org\r\nBcc: eve@example.org"}),
        (0o600, {"ca_file": "missing.pem"}),
    ],
)
def test_settings_that_wont_do(tmp_path: Path, rights: int, changes: dict[str, Any]) -> None:
    password = tmp_path / "password"
    password.touch(mode=rights)
    password.write_bytes(b"right")
    if "password_file" in changes:
        changes = changes | {"password_file": str(password)}
    settings: dict[str, Any] = {"host": "127.0.0.1", "sender": "portal@example.org"}
    mail = MailConfig(**(settings | changes))
    config = Config(origin="https://portal.test", name="P", database="", key_file="", mail=mail)
    with pytest.raises(ConfigError):
        config.mail_server()


@pytest.mark.parametrize("word", ["wrong", "right"])
async def test_a_log_in_over_tls(kit: Kit, ca: ThrowAwayCA, tmp_path: Path, word: str) -> None:
    await kit.person()
    await put(kit)
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(word)
    async with mail_server(ca, tls=True) as server:
        sender = sender_to(kit, server.port, ca, security="tls", user="portal", password_file=str(password))
        await sender.run_due()
    left = [row.last_error for row in await rows(kit)]
    assert (left, len(server.mails)) == ((["login"], 0) if word == "wrong" else ([], 1))


# --- disturbed


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
async def test_not_now_then_accepted_and_killed_between(
    kit: Kit, server: MailServer, sender: MailSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(kit)
    server.answers = ["451 4.7.1 later"]
    await sender.run_due()
    (row,) = await rows(kit)
    assert (row.state, row.last_error, server.mails) == ("waiting", "content 451 4.7.1", [])
    assert await sender.next_due() == kit.clock() + 60
    kit.clock.now += 60

    class KilledError(Exception):
        pass

    async def killed(_mail: Mail) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(sender, "_sent", killed)
        with pytest.raises(KilledError):
            await sender.run_due()
    assert len(server.mails) == 1
    kit.clock.now += 120
    await sender.run_due()
    first, second = (message_from_bytes(mail) for mail in server.mails)
    assert first["Message-ID"] == second["Message-ID"] == row.message_id
    assert await rows(kit) == []
    assert (await actions(kit)).count("mail.sent") == 1


async def test_cut_off_in_the_middle_the_next_one_goes_over_a_new_connection(
    kit: Kit, server: MailServer, sender: MailSender
) -> None:
    await put(kit, text="first\n")
    await put(kit, text="second\n")
    server.answers = ["cut"]
    await sender.run_due()
    (row,) = await rows(kit)
    assert (row.last_error, len(server.mails)) == ("cut", 1)
    kit.clock.now += 60
    await sender.run_due()
    assert (await rows(kit), len(server.mails)) == ([], 2)


async def test_one_that_is_dropped_while_another_goes_out_is_not_sent(
    kit: Kit, server: MailServer, sender: MailSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were due when the run began; what a mail tells is asked of the database once more before it goes."""
    await put(kit, secret=True, text="283917")
    await put(kit, secret=True, text="391728")
    (ada,) = {row.about_id for row in await rows(kit)}
    sent = sender._sent

    async def sent_and_dropped(mail: Mail) -> None:
        await sent(mail)
        async with kit.database.write() as tx:
            await outbox.drop(tx, kit.portal.context, ada, "test")

    monkeypatch.setattr(sender, "_sent", sent_and_dropped)
    await sender.run_due()
    assert (len(server.mails), await rows(kit)) == (1, [])
    assert sorted(await actions(kit)) == ["mail.added", "mail.added", "mail.dropped", "mail.sent"]


# --- as it should go


async def test_the_portal_sends_by_itself_what_was_just_committed(
    tmp_path: Path, database_url: str, ca: ThrowAwayCA, server: MailServer
) -> None:
    settings = MailConfig(
        host="127.0.0.1", port=server.port, sender="portal@example.org", ca_file=str(ca.ca_file)
    )
    async with running_portal(tmp_path, database=database_url, mail=settings) as kit:
        await kit.person()
        await put(kit)
        async with asyncio.timeout(10):
            await server.arrived.wait()


async def test_it_says_what_was_meant_and_its_text_is_gone(
    kit: Kit, server: MailServer, sender: MailSender
) -> None:
    await put(kit, secret=True, text="PIN 283917 für Ada\n")
    await sender.run_due()
    (mail,) = (message_from_bytes(mail) for mail in server.mails)
    assert (mail["To"], mail["Subject"], mail["Auto-Submitted"]) == (
        "ada@example.org",
        "Test",
        "auto-generated",
    )
    assert mail["From"] == "Example portal <portal@example.org>"
    payload = mail.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode() == "PIN 283917 für Ada\r\n"
    assert await rows(kit) == []
    assert await actions(kit) == ["mail.added", "mail.sent"]
