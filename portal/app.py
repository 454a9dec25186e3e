"""Puts the portal together: parts, background work, and the web application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from portal.accounts import Accounts
from portal.addresses import PROXIES
from portal.audit_heads import HeadExport
from portal.ca.archive import Archive
from portal.ca.builtin import BuiltinCa
from portal.ca.ocsp import OcspResponder
from portal.ca.service import CaService
from portal.channel.connection import ChannelParts
from portal.channel.server import ChannelServer
from portal.clock import system_clock
from portal.events import ChangeBus
from portal.key_sets import KeySets
from portal.mail.sender import MailSender
from portal.passwords import Passwords
from portal.processes import registry
from portal.processes.alarm import Alarm
from portal.processes.claims import Claims
from portal.processes.context import Context
from portal.processes.engine import Engine
from portal.processes.expiry import Expiry
from portal.processes.expiry_mails import ExpiryMails
from portal.processes.incoming import Incoming
from portal.processes.issuing import Issuing
from portal.processes.reconcile import Reconciler
from portal.processes.revocations import Revocations
from portal.self_service import SelfService
from portal.staff.administrator import Administrator
from portal.staff.batches import Batches
from portal.staff.operator import Operator
from portal.store import migrate
from portal.store.database import Database
from portal.store.transitions import check_states
from portal.views import PortalInfo
from protocol import jose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portal.ca.authority import CertificateAuthority
    from portal.clock import Clock
    from portal.config import Config
    from portal.keys import KeyPort
    from portal.processes.alarm import Work


class Portal:
    """All parts of a portal.

    Args:
        config: its configuration.
        keys: its keys.
        clock: its time.
        passwords: hashes passwords.
        ca: the CA; the built-in one by default.
    """

    def __init__(
        self,
        config: Config,
        keys: KeyPort,
        *,
        clock: Clock = system_clock,
        passwords: Passwords | None = None,
        ca: CertificateAuthority | None = None,
    ) -> None:
        self.keys = keys
        self._proxies = frozenset(config.proxies)
        self.database = Database(config.database, ChangeBus(), config.model())
        builtin = BuiltinCa(self.database, keys, clock, config.origin, config.ca_name)
        self.ca = ca or builtin
        self.ca_service = CaService(self.ca, OcspResponder(builtin, keys, clock), clock)
        self.context = self._context(config, clock)
        self.accounts = Accounts(self.database, passwords or Passwords(), clock)
        self.key_sets = KeySets(self.database, keys, clock, config.portal_id, config.name)
        issuing = Issuing(self.context)
        self.incoming = Incoming(self.context, issuing)
        self.reconciler = Reconciler(self.context, self.incoming, issuing)
        self.revocations = Revocations(self.context)
        self._heads = HeadExport(self.database, keys, config.portal_id, clock, config.audit_heads_file)
        self.expiry = Expiry(self.context)
        self.expiry_mails = ExpiryMails(self.context)
        self.mail_sender = MailSender(self.context, config.mail_server())
        self._alarms = [Alarm(work, self.database.bus, clock) for work in self._works()]
        self.channel = ChannelParts(self.context, Claims(self.context), self.incoming, self.key_sets)
        self.engine = Engine(self.context, registry.definitions(self.context))
        self.operator = Operator(self.context, self.engine)
        self.batches = Batches(self.context, self.engine)
        self.administrator = Administrator(self.context, self.accounts)
        fingerprint = jose.fingerprint(keys.root().public)
        info = PortalInfo(config.portal_id, config.name, config.origin, fingerprint)
        self.services = SelfService(self.context, self.accounts, self.engine, info)

    def _context(self, config: Config, clock: Clock) -> Context:
        """What processes work with."""
        return Context(
            database=self.database,
            keys=self.keys,
            ca=self.ca,
            archive=Archive(self.database, self.keys, clock),
            clock=clock,
            portal=config.portal_id,
            origin=config.origin,
            factory=config.factory_secrets(),
            roots=config.trusted_makers(),
            mails=config.mail is not None,
            descriptions=config.described_cards(),
        )

    def _works(self) -> Sequence[Work]:
        """What falls due by itself."""
        return (
            self.reconciler,
            self.revocations,
            self._heads,
            self.expiry,
            self.expiry_mails,
            self.mail_sender,
        )

    async def prepare(self) -> None:
        """Bring the database up to date, and make the CA's certificate and the key set."""
        await migrate.upgrade(self.database)
        await check_states(self.database)
        await self.ca.certificate()
        await self.key_sets.token()

    async def start(self) -> None:
        """Prepare, take up what was left half done, and start the background work."""
        await self.prepare()
        await self._heads.run_due()
        for jti in await self.incoming.unfinished():
            self.incoming.carry_out(jti)
        for alarm in self._alarms:
            alarm.start()

    async def pause(self) -> None:
        """Stop the work that falls due by itself; it is found again at the next start."""
        for alarm in self._alarms:
            await alarm.stop()

    async def stop(self) -> None:
        """Stop the background work and close the database."""
        await self.pause()
        await self.incoming.stop()
        await self.database.close()

    def application(self) -> web.Application:
        """The web application for agents and CA clients; pages are added by ``portal.web``."""
        app = web.Application(client_max_size=64 * 1024)
        app[PROXIES] = self._proxies
        ChannelServer(self.channel).add_routes(app)
        self.ca_service.add_routes(app)
        app.on_startup.append(self._started)
        app.on_cleanup.append(self._stopped)
        return app

    async def _started(self, _app: web.Application) -> None:
        try:
            await self.start()
        except BaseException:
            await (
                self.stop()
            )  # what was begun is ended: nobody else does it for an application that didn't start
            raise

    async def _stopped(self, _app: web.Application) -> None:
        await self.stop()
