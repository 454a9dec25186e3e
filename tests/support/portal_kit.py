"""A whole portal for a test: SQLite in a folder of its own, cheap hashing, a clock that the test holds."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from argon2 import PasswordHasher
from sqlalchemy import select

from portal import option_store
from portal.app import Portal
from portal.ca.builtin import BuiltinCa
from portal.config import Config
from portal.keys import Argon2Cost, FileKeys
from portal.model.states import Role
from portal.model.virtual_card_options import NAME as CARD_OPTIONS
from portal.passwords import Passwords
from portal.store.tables import CaCertificate
from tests.support import compiled_statements
from tests.support.software_agent import SoftwareAgent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from portal.keys import KeyPort
    from portal.model.options import OptionValue
    from portal.views import CodeView, ProcessView, Session
    from protocol.messages import PageEvent
    from tests.support.unruly_ca import UnrulyCa

ORIGIN = "https://portal.test"
PROCESS = "VirtualSmartCardSelfServiceProcGet"
PASSWORD = "correct horse battery"
PASSPHRASE = b"a passphrase for throw-away keys"
P256: dict[str, OptionValue] = {
    "AuthenticationAlgorithm": "P-256",
    "SignatureAlgorithm": "P-256",
    "EncryptionAlgorithm": "P-256",
}
compiled_statements.use()
CHEAP = Argon2Cost(time=1, memory_kib=8, lanes=1)


class HeldClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = int(time.time())

    def __call__(self) -> int:
        """The time."""
        return self.now


class Kit:
    """A running portal with one server, and people who use it."""

    def __init__(self, portal: Portal, server: TestServer, client: ClientSession, clock: HeldClock) -> None:
        self.portal, self.server, self.client, self.clock = portal, server, client, clock
        self.services = portal.services
        self.database = portal.database
        self._agents: list[SoftwareAgent] = []

    async def person(
        self, email: str = "ada@example.org", roles: Iterable[Role] = (Role.SELF_SERVICE,)
    ) -> Session:
        """A new user, logged in."""
        await self.portal.accounts.add(email, "Ada Example", PASSWORD, roles)
        return await self.login(email)

    async def login(self, email: str = "ada@example.org") -> Session:
        """Another log-in session of a user."""
        return (await self.services.login(email, PASSWORD, "192.0.2.1")).session

    async def at_open(self, session: Session) -> tuple[ProcessView, CodeView]:
        """A process at the step *open*, and a code."""
        view = await self.services.start_process(session, PROCESS)
        view = await self.services.next(session, view.id, view.version)
        return view, await self.services.new_code(session, view.id)

    async def agent(self) -> SoftwareAgent:
        """A new device, connected."""
        info = self.services.info
        root = self.portal.keys.root().public
        agent = SoftwareAgent(
            self.client, str(self.server.make_url("/")).rstrip("/"), root, info.id, info.origin
        )
        self._agents.append(agent)
        return await agent.connect()

    async def bound_agent(self, session: Session) -> tuple[ProcessView, SoftwareAgent]:
        """A process whose order was claimed by link, agreed to, and bound by its number."""
        view, code = await self.at_open(session)
        agent = await self.agent()
        await agent.claim(code.code)
        await agent.consent(number="417")
        await self.bind(session, view.id, "417")
        return view, agent

    async def bind(self, session: Session, process_id: str, number: str) -> None:
        """Type the number once it is asked for."""
        async for event in self.services.events(session, process_id):
            if event.number_wanted:
                assert (await self.services.enter_number(session, process_id, number)).accepted
                return

    async def known_agent(self, session: Session) -> SoftwareAgent:
        """A device that this account has used before, on a fresh connection with a fresh card."""
        view, agent = await self.bound_agent(session)
        await agent.complete()
        view = await self.services.process(session, view.id)
        await self.services.next(session, view.id, view.version)
        again = await self.agent()
        again.device = agent.device
        return again

    async def set_options(self, **changes: OptionValue) -> None:
        """Save options of *Get virtual smart card*."""
        async with self.database.write() as tx:
            saved = await option_store.current(tx, CARD_OPTIONS)
            values = option_store.script_of(CARD_OPTIONS).check({**saved.values, **changes})
            await option_store.save(tx, CARD_OPTIONS, saved.version, values, by="test", now=self.clock())

    async def save_options(self, root: Session, script: str, **changed: list[str]) -> None:
        """Save options of a script as an administrator's page does."""
        async with self.database.read() as tx:
            saved = await option_store.current(tx, script)
        form = {**option_store.script_of(script).as_form(saved.values), **changed}
        await self.services.save_options(root, script, saved.version, form)

    async def ended(self, session: Session, process_id: str) -> PageEvent:
        """Wait for the end of an order."""
        async with asyncio.timeout(20):
            return [event async for event in self.services.events(session, process_id)][-1]

    async def valid_at_ca(self) -> list[str]:
        """Request ids of all certificates that are good in the CA's own list, after the revocation queue has run."""
        await self.portal.revocations.run_due()
        query = select(CaCertificate.request_id).where(CaCertificate.revoked_at.is_(None), ~CaCertificate.own)
        async with self.database.read() as tx:
            return list(await tx.scalars(query))

    async def close_agents(self) -> None:
        """Drop all connections."""
        for agent in self._agents:
            await agent.close()


@asynccontextmanager
async def running_portal(
    folder: Path,
    *,
    origin: str = ORIGIN,
    database: str | None = None,
    ca: UnrulyCa | None = None,
    keys: KeyPort | None = None,
    **changes: Any,
) -> AsyncIterator[Kit]:
    """A portal with its server, stopped at the end."""
    config = Config(
        origin=origin,
        name="Example portal",
        database=database or f"sqlite+aiosqlite:///{folder}/portal.db",
        key_file=str(folder / "keys" / "portal.keys"),
        **changes,
    )
    clock = HeldClock()
    path = folder / "keys" / "portal.keys"
    if keys is None:
        keys = FileKeys(path, PASSPHRASE) if path.exists() else FileKeys.create(path, PASSPHRASE, CHEAP)
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    portal = Portal(config, keys, clock=clock, passwords=passwords, ca=ca)
    if ca is not None:
        ca.inner = BuiltinCa(portal.database, keys, clock, origin, "Example CA")
    server = TestServer(portal.application())
    await server.start_server()
    async with ClientSession() as client:
        kit = Kit(portal, server, client, clock)
        try:
            yield kit
        finally:
            await kit.close_agents()
            await server.close()
