"""One portal of the crash matrix: its folder, its database, its process; and what the CA's own list says."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from argon2 import PasswordHasher
from sqlalchemy import create_engine, text

from portal import config as configuration
from portal import option_store
from portal.app import Portal
from portal.keys import Argon2Cost, FileKeys
from portal.model.states import Role
from portal.model.virtual_card_options import NAME as CARD_OPTIONS
from portal.passwords import Passwords
from tests.faults.crash_plan import CrashFolder
from tests.support.portal_process import Account, PortalProcess
from tests.support.processes import Child
from tests.support.stack import Site, password

if TYPE_CHECKING:
    from portal.model.options import OptionValue

_PROGRAM = Path(__file__).with_name("crash_portal.py")
_OVER: int = 7200
"""Seconds by which the reconciler's clock is ahead: every order's time to resume is over."""


class CrashPortal(PortalProcess):
    """The portal's process, forked by `tests.faults.crash_portal`.

    Attributes:
        url: its database.
        plans: where its hooks look.
    """

    def prepare_here(self, url: str, user: Account, options: dict[str, OptionValue]) -> None:
        """Make keys, database, one account and options in this process: with cheap hashing, and quickly."""
        self.url = url
        settings = json.loads(self._config.read_text()) | {"database": url}
        self._config.write_text(json.dumps(settings))
        loaded = configuration.load(self._config)
        secret = Path(loaded.passphrase_file or "").read_bytes()
        keys = FileKeys.create(Path(loaded.key_file), secret, Argon2Cost(time=1, memory_kib=8, lanes=1))
        hasher = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))

        async def make() -> None:
            portal = Portal(loaded, keys, passwords=hasher)
            await portal.prepare()
            await portal.accounts.add(user.email, user.name, user.password, [Role.SELF_SERVICE])
            async with portal.database.write() as tx:
                saved = await option_store.current(tx, CARD_OPTIONS)
                values = option_store.script_of(CARD_OPTIONS).check({**saved.values, **options})
                await option_store.save(tx, CARD_OPTIONS, saved.version, values, by="test", now=1)
            await portal.database.close()

        asyncio.run(make())
        self.root = keys.root().public

    def begin(self, plans: Path) -> None:
        """Start what forks the portals."""
        self.plans = CrashFolder(plans)
        mine, theirs = socket.socketpair()
        argv = [sys.executable, "-I", str(_PROGRAM), str(plans), str(self._config), str(theirs.fileno())]
        self._forks = Child(argv, log=self.log_file, pass_fds=(theirs.fileno(),))
        theirs.close()
        mine.settimeout(60)
        self._control, self._lines = mine, mine.makefile("r")
        self._pid = self._killed = 0

    def start(self) -> None:
        """Fork a portal, and wait until it runs."""
        answers = {self._ask("serve"), self._lines.readline().strip()}
        assert "up" in answers, f"the portal didn't start: {self._forks.output()[-2000:]}"
        (pid,) = answers - {"up"}
        self._pid = int(pid)

    def again(self) -> None:
        """Start it again when the plan has killed it."""
        plan = self.plans.read()
        if plan is None or plan.fault != "kill" or plan.number == self._killed or not self.plans.fired:
            return
        self._killed = plan.number
        assert self._ask(f"gone {self._pid}") == "gone"
        self.start()

    def reconcile(self) -> int:
        """``inlay-portal reconcile`` when every order's time is over; its exit status."""
        return int(self._ask(f"reconcile {_OVER}"))

    def stop(self) -> None:
        """End it with what forks it."""
        self._lines.close()
        self._control.close()
        self._forks.kill()

    def _ask(self, line: str) -> str:
        self._control.sendall(line.encode() + b"\n")
        return self._lines.readline().strip()


class CrashSite(Site):
    """A portal for a row of the matrix.

    Attributes:
        user: who gets the cards.
    """

    portal: CrashPortal

    def __init__(self, folder: Path, url: str | None, *, hold: bool) -> None:
        """Lay out everything in an existing, empty folder.

        Args:
            folder: where.
            url: of an empty database; a SQLite file in the folder when None.
            hold: the option ``HoldUntilProof``.
        """
        super().__init__(folder)
        self._folder = folder
        port = int(self.portal.origin.rpartition(":")[2])
        self.portal = CrashPortal(folder, self.ca, port=port)
        self.user = Account("ada@example.org", "Ada Example", password())
        options: dict[str, OptionValue] = {
            f"{name}Algorithm": "P-256" for name in ("Authentication", "Signature", "Encryption")
        }
        sqlite = f"sqlite+aiosqlite:///{folder}/portal.sqlite"
        self.portal.prepare_here(url or sqlite, self.user, options | {"HoldUntilProof": hold})
        synchronous = self.portal.url.replace("+aiosqlite", "")
        self._engine = create_engine(synchronous)

    def __enter__(self) -> Self:
        plans = self._folder / "plans"
        plans.mkdir()
        self.portal.begin(plans)
        self.portal.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.portal.stop()
        self._engine.dispose()

    def count(self, table: str, where: str = "TRUE") -> int:
        """How many rows a table has."""
        with self._engine.connect() as connection:
            return int(connection.execute(text(f"SELECT count(*) FROM {table} WHERE {where}")).scalar_one())  # noqa: S608

    def card_id(self, guid: str) -> str:
        """The id of the card with a GUID."""
        with self._engine.connect() as connection:
            found = connection.execute(text("SELECT id FROM cards WHERE guid = :guid"), {"guid": guid})
            return str(found.scalar_one())

    def good(self) -> set[bytes]:
        """All certificates (DER) that are good by the CA's own list."""
        query = text("SELECT der FROM ca_certificates WHERE revoked_at IS NULL AND NOT own")
        with self._engine.connect() as connection:
            return {bytes(row.der) for row in connection.execute(query)}
