"""What end-to-end tests stand on: one portal for all of them, a new person at a new desk for each."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.support import card_desk, loop_watch
from tests.support.browser import Policies, Portal, chromium
from tests.support.display import VirtualDisplay
from tests.support.mail_server import MailServer, mail_server_aside
from tests.support.person import Person
from tests.support.portal_process import CRL_PATH, Account
from tests.support.stack import ANY_LEVEL, Desk, Site, free_port, password

if TYPE_CHECKING:
    from tests.support.certificates import ThrowAwayCA
    from tests.support.pcscd import PrivatePcscd


@dataclass
class UseCase:
    """One person, one desk, the portal of all.

    Attributes:
        address: of the portal, as the browser sees it.
        pin: the PIN that the person will choose.
    """

    site: Site
    desk: Desk
    user: Account
    display: VirtualDisplay
    address: Portal
    pin: str

    @asynccontextmanager
    async def browser(self, policies: Policies | None = None) -> AsyncIterator[Person]:
        """The person in front of a browser, logged in."""
        running = chromium(
            self.display,
            self.desk.home,
            portal=self.address,
            ca_file=self.site.ca.ca_file,
            policies=policies,
        )
        async with running as context:
            person = Person(self.display, context.pages[0])
            try:
                await person.log_in(self.address.origin, self.user)
                yield person
            except BaseException:
                self.say_what_was_seen()
                raise

    def say_what_was_seen(self) -> None:
        """Print, for a failed test's report, where its picture is and what agent and portal wrote."""
        picture = self.display.screenshot(self.display.folder / f"{self.desk.home.parent.name}.png")
        sys.stdout.write(
            f"screen: {picture}\n{self.desk.agent.logs()}\n{self.site.portal.log_file.read_text()}"
        )

    def cards(self) -> list[dict[str, Any]]:
        """The agent's cards."""
        found: list[dict[str, Any]] = self.desk.agent.ask("cards")["cards"]
        return found

    def card_files(self) -> list[Path]:
        """Files of cards on the disk."""
        return sorted((self.desk.agent.state / "cards").rglob("*.card"))

    def issued(self) -> dict[int, bool]:
        """What the CA has issued to this user, by serial number: whether it is valid by the CA's CRL."""
        crl = x509.load_der_x509_crl(self.site.portal.fetch(CRL_PATH))
        with contextlib.closing(sqlite3.connect(self.site.portal.database)) as database:
            rows = database.execute("SELECT der FROM ca_certificates").fetchall()
        found = [x509.load_der_x509_certificate(der) for (der,) in rows]
        return {
            one.serial_number: crl.get_revoked_certificate_by_serial_number(one.serial_number) is None
            for one in found
            if self.user.email in one.subject.rfc4514_string()
        }

    def assert_nothing_left(self) -> None:
        """No card, no key, no valid certificate."""
        assert self.cards() == []
        assert self.card_files() == []
        assert not any(self.issued().values())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A desk that several tests share says what was seen there when one of them, or its fixture, fails."""
    report = yield
    if report.failed:
        report.sections += [("desk", desk.seen()) for desk in card_desk.RUNNING]
    return report


@pytest.fixture(autouse=True)
def event_loop_not_blocked() -> Iterator[None]:
    """Not judged here: the product's event loops are in processes of their own, this one is the test's."""
    yield
    loop_watch.take()


@pytest.fixture(scope="session")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualDisplay]:
    """A screen wide enough for browser and window side by side."""
    with VirtualDisplay(tmp_path_factory.mktemp("screen"), width=1720, height=1024) as running:
        yield running


@pytest.fixture(scope="session")
def mails(https_ca: ThrowAwayCA) -> Iterator[MailServer]:
    """The mail server that the portal hands its mails over to."""
    with mail_server_aside(https_ca) as running:
        yield running


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, mails: MailServer) -> Iterator[Site]:
    """The portal, at the address that its links name."""
    port = free_port()
    mail = {
        "host": "localhost",
        "port": mails.port,
        "sender": "portal@example.org",
        "ca_file": str(mails.ca.ca_file),
    }
    running = Site(tmp_path_factory.mktemp("portal"), port=port, host="portal.test", mail=mail)
    running.prepare(options=ANY_LEVEL)
    running.portal.start()
    yield running
    running.portal.stop()


@pytest.fixture
def roles() -> tuple[str, ...]:
    """The person's roles; empty for the portal's default."""
    return ()


@pytest.fixture
def use_case(
    site: Site, screen: VirtualDisplay, pcscd: PrivatePcscd, roles: tuple[str, ...]
) -> Iterator[UseCase]:
    """A person whom the portal knows, at a machine that trusts it."""
    assert pcscd.readers
    folder = Path(tempfile.mkdtemp(prefix="desk-"))  # pytest's own folders are too deep for a socket's name
    desk = Desk(folder, screen.env)
    user = Account(f"user-{secrets.token_hex(3)}@example.org", "Test user", password(), roles)
    try:
        with ThreadPoolExecutor(1) as aside:  # most of both is waiting for one process to start
            known = aside.submit(site.portal.add, user)
            desk.start()
            known.result()
        desk.trust(site)
        port = int(site.portal.portal_id.partition(":")[2])
        pin = f"{secrets.randbelow(10**6):06d}"
        yield UseCase(site, desk, user, screen, Portal(port), pin)
    finally:
        desk.stop()
        shutil.rmtree(folder)
