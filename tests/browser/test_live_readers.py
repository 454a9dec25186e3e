"""Readers and cards in a page of a real Chromium, live, over a real pcscd that also goes away and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from playwright.async_api import Page

from agent.environment import LastEnvironment
from agent.handlers.registry import PAGE
from agent.order_ports import Services
from agent.pcsc import scard
from agent.reader_watch import ReaderWatch
from agent.readers import PcscReaders
from agent.server import LoopbackServer
from agent.trust import TrustStore
from agent.trust_desk import TrustStoreDesk
from protocol import jose, keyset
from protocol.messages import KeySet, Ticket
from tests.support.agent_parts import folders_in
from tests.support.browser import Policies, Portal, chromium
from tests.support.certificates import ThrowAwayCA
from tests.support.display import VirtualDisplay
from tests.support.dummy_card import DummyCard
from tests.support.pcscd import PrivatePcscd
from tests.support.processes import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.interop, pytest.mark.timeout(120)]

LASTING = ThreadPoolExecutor(1)
"""pcscd ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""
CLIENT = Path(__file__).parents[2] / "protocol" / "js"
HTML = """<!doctype html><title>Readers</title>
<script type="module">
import { watchReaders } from '/client/inlay.js';
window.told = [];
window.ended = [];
window.watch = watchReaders({
  ticket: async () => (await fetch('/ticket', { method: 'POST' })).text(),
  onReaders: (event) => window.told.push(event),
  onEnded: (event) => window.ended.push(event),
});
</script>"""


class PortalWithReaders:
    """A portal of one page that gives out tickets, and the agent's side that trusts it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.key = jose.SigningKey.generate(), jose.SigningKey.generate()
        self.store = TrustStore(folders_in(folder))
        self.watch = ReaderWatch()
        self.seconds = 600
        self.tickets = 0
        self.portal = Portal(0)

    def trust(self, port: int) -> None:
        """The agent trusts the portal, whose port is known now."""
        self.portal = Portal(port)
        name = self.portal.origin.removeprefix("https://")
        entry = self.store.add(name, "Portal", self.root.public, None)
        now = int(time.time())
        keys = keyset.order_keys([self.key])
        known = KeySet(
            iss=name,
            version=1,
            iat=now,
            exp=now + 600,
            order_keys=keys,
            name="Portal",
            channel_path="/channel",
        )
        self.store.accept_key_set(entry, keyset.sign(known, self.root))

    async def page(self, _request: web.Request) -> web.Response:
        return web.Response(text=HTML, content_type="text/html")

    async def ticket(self, _request: web.Request) -> web.Response:
        now, origin = int(time.time()), self.portal.origin
        self.tickets += 1
        ticket = Ticket(
            iss=origin.removeprefix("https://"),
            aud="inlay",
            origin=origin,
            level="read",
            iat=now,
            exp=now + self.seconds,
        )
        return web.Response(text=self.key.sign(jose.TICKET, ticket))

    def server(self) -> LoopbackServer:
        services = SimpleNamespace(
            trust=TrustStoreDesk(self.store), readers=PcscReaders(self.watch, Path("/none"))
        )
        origins = [self.portal.origin]
        return LoopbackServer(cast(Services, services), PAGE, lambda: origins, LastEnvironment())


@asynccontextmanager
async def page_of(
    xvfb: VirtualDisplay, ca: ThrowAwayCA, folder: Path, seconds: int = 600
) -> AsyncIterator[tuple[Page, PortalWithReaders]]:
    at = PortalWithReaders(folder / "agent")
    at.seconds = seconds
    app = web.Application()
    app.router.add_get("/", at.page)
    app.router.add_post("/ticket", at.ticket)
    app.router.add_static("/client", CLIENT)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ca.server_context()).start()
    at.trust(runner.addresses[0][1])
    server, policies = at.server(), Policies()
    policies.allow_loopback(at.portal.origin)
    await server.listen()
    home = folder / "home"
    home.mkdir()
    try:
        async with chromium(xvfb, home, portal=at.portal, ca_file=ca.ca_file, policies=policies) as context:
            page = context.pages[0]
            await page.goto(at.portal.origin + "/")
            yield page, at
    finally:
        await server.close()
        await at.watch.close()
        await runner.cleanup()


async def shown(page: Page, condition: str) -> Any:
    """The page's last telling, as soon as a condition on it holds."""
    await page.wait_for_function(
        f"() => {{ const last = window.told.at(-1); return last && ({condition}); }}"
    )
    return await page.evaluate("window.told.at(-1)")


async def test_cards_and_the_service_come_and_go_in_the_page(
    xvfb: VirtualDisplay, https_ca: ThrowAwayCA, tmp_path: Path, pcscd: PrivatePcscd
) -> None:
    reader = pcscd.readers[6]
    there = f"last.readers.some((each) => each.name === '{reader}' && each.card_present)"
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(
        wait_until, lambda: not any(item.present for item in scard.list_readers()), "empty readers"
    )
    async with page_of(xvfb, https_ca, tmp_path) as (page, _):
        first = await shown(page, "last.service")
        assert len(first["readers"]) == 8
        with DummyCard(pcscd.vpcd_ports[6]):
            full = await shown(page, there)
            [row] = [each for each in full["readers"] if each["name"] == reader]
            assert row["insertions"] == 1
            assert row["atr"].startswith("3B8B80")
        await shown(page, f"!({there})")
        await loop.run_in_executor(LASTING, pcscd.stop)
        try:
            assert (await shown(page, "!last.service"))["readers"] == []
        finally:
            await loop.run_in_executor(LASTING, pcscd.start)
        assert len((await shown(page, "last.service"))["readers"]) == 8
        assert await page.evaluate("window.ended") == []


async def test_a_ticket_that_runs_out_is_renewed_by_the_page(
    xvfb: VirtualDisplay, https_ca: ThrowAwayCA, tmp_path: Path, pcscd: PrivatePcscd
) -> None:
    async with page_of(xvfb, https_ca, tmp_path, seconds=5) as (page, at):
        await shown(page, "last.service")
        await asyncio.to_thread(wait_until, lambda: at.tickets >= 3, "three tickets", seconds=40)
        await shown(page, "last.service")
        assert await page.evaluate("window.ended") == []
        await page.evaluate("window.watch.close()")
