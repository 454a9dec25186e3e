"""The real portal in a folder of its own: `inlay-portal` with SQLite and https."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from portal.accounts import Accounts
from portal.clock import system_clock
from portal.events import ChangeBus
from portal.model.states import Role
from portal.passwords import Passwords
from portal.store.database import Database
from tests.support.processes import Child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.certificates import ThrowAwayCA

CRL_PATH = "/ca/inlay.crl"
CA_CERTIFICATE_PATH = "/ca/inlay.cer"

PORTAL_COMMAND = Path(sys.executable).parent / "inlay-portal"


@dataclass(frozen=True)
class Account:
    """Somebody who can log in.

    Attributes:
        roles: ``self-service``, ``administrator`` …; the portal's default when empty.
    """

    email: str
    name: str
    password: str
    roles: tuple[str, ...] = ()


class PortalProcess:
    """A portal on this machine.

    Attributes:
        portal_id: as links and trust entries name it, ``host:port``.
        origin: its address.
        log_file: what it prints.
        database: its SQLite file.
        program: what serves; the installed command, unless a test puts another in its place.
    """

    def __init__(
        self,
        folder: Path,
        ca: ThrowAwayCA,
        *,
        port: int,
        host: str = "localhost",
        outlives: bool = False,
        mail: Mapping[str, object] | None = None,
    ) -> None:
        """Write the configuration; nothing is started yet.

        Args:
            folder: existing and empty.
            ca: whose server certificate it has.
            port: a free TCP port on 127.0.0.1.
            host: one of the certificate's names.
            outlives: the portal goes on when this process ends.
            mail: the mail server, as the configuration names it; None: the portal sends no mail.
        """
        self._mail = mail
        self.portal_id = f"{host}:{port}"
        self.origin = f"https://{self.portal_id}"
        self.log_file = folder / "portal.log"
        self.database = folder / "portal.sqlite"
        self.program = [str(PORTAL_COMMAND)]
        self._ca = ca
        self._folder = folder
        self._port = port
        self._outlives = outlives
        self._child: Child | None = None
        self._config = folder / "portal.json"
        self._config.write_text(json.dumps(self._configuration(), indent=2))
        self._secret_file("passphrase", secrets.token_urlsafe(32))

    @property
    def pid(self) -> int:
        """Process id of the running portal."""
        if self._child is None:
            raise RuntimeError("the portal isn't running")
        return self._child.pid

    def prepare(self, accounts: Sequence[Account], options: Mapping[str, str] | None = None) -> None:
        """Make keys, database and accounts, and set script options.

        Args:
            accounts: who can log in.
            options: of *Get virtual smart card*: name to value, lists with commas.
        """
        self.command("init")
        for account in accounts:
            self.add(account)
        if options:
            self.command("options", *(f"--set={name}={value}" for name, value in options.items()))

    def add(self, account: Account) -> None:
        """Let somebody log in; possible while the portal runs, and quicker than the portal's command by its start."""
        with ThreadPoolExecutor(1) as aside:  # the caller may have an event loop
            aside.submit(asyncio.run, self._add(account)).result()

    async def _add(self, account: Account) -> None:
        database = Database(f"sqlite+aiosqlite:///{self.database}", ChangeBus())
        roles = [Role(role) for role in account.roles] or [Role.SELF_SERVICE]
        try:
            accounts = Accounts(database, Passwords(), system_clock)
            await accounts.add(account.email, account.name, account.password, roles)
        finally:
            await database.close()

    @cached_property
    def fingerprint(self) -> str:
        """Of its root key."""
        return self.command("fingerprint").strip()

    def start(self) -> None:
        """Start it and wait until it says that it runs."""
        self.log_file.write_bytes(b"")
        self._child = Child(
            [*self.program, "--config", str(self._config), "serve"],
            log=self.log_file,
            outlives=self._outlives,
        )
        running = f" is running: {self.origin}"
        child = self._child
        child.wait_until(lambda: running in child.output(), "the portal", seconds=30)

    def stop(self) -> None:
        """End it as a service manager does."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def command(self, *arguments: str) -> str:
        """Run ``inlay-portal`` on this portal's configuration; returns what it prints.

        Raises:
            AssertionError: it was refused.
        """
        argv = [str(PORTAL_COMMAND), "--config", str(self._config), *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"inlay-portal {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def fetch(self, path: str) -> bytes:
        """The body at a path, over verified https."""
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # it is on this machine
            urllib.request.HTTPSHandler(context=self._ca.client_context()),
        )
        address = f"https://127.0.0.1:{self._port}{path}"
        with opener.open(address, timeout=20) as answer:
            body: bytes = answer.read()
            return body

    def _configuration(self) -> dict[str, object]:
        return {
            "origin": self.origin,
            "name": "Inlay demo portal",
            "database": f"sqlite+aiosqlite:///{self.database.name}",
            "key_file": "keys",
            "passphrase_file": "passphrase",
            "listen": {"host": "127.0.0.1", "port": self._port},
            "tls": {"certificate": str(self._ca.certificate_file), "key": str(self._ca.key_file)},
            "ca_name": "Inlay demo CA",
            "mail": self._mail,
        }

    def _secret_file(self, name: str, content: str) -> Path:
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text(content)
        return path
