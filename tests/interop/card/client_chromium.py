"""Chromium logs in to an https server with the certificate and key of slot 9A, by NSS and OpenSC's module."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from agent.vsc.commands import Algorithm
from tests.interop.card.clients import KEYS, MODULE, PIN_TEXT, Client
from tests.support import browser
from tests.support.browser import Policies, Portal, chromium
from tests.support.certificates import ThrowAwayCA
from tests.support.display import VirtualDisplay

VERSIONS: Final = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}
PIN_QUESTION = "^Unlock Security Device$"


async def _whoami(request: web.Request) -> web.Response:
    """Who the client's certificate says it is, and by which protocol."""
    assert request.transport is not None
    tls = request.transport.get_extra_info("ssl_object")
    names = {key: value for part in tls.getpeercert()["subject"] for key, value in part}
    return web.Response(text=f"{names['commonName']} by {tls.version()}")


@asynccontextmanager
async def _server(ca: ThrowAwayCA, trusted: Path, newest: ssl.TLSVersion) -> AsyncIterator[int]:
    """A server that lets nobody in without a certificate of the card's issuer; its port."""
    context = ca.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(trusted)
    context.maximum_version = newest
    app = web.Application()
    app.router.add_get("/", _whoami)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _with_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chromium's certificate database gets OpenSC's module, as its users load it."""
    trust = browser.trust

    def trust_and_load(home: Path, ca_file: Path) -> None:
        trust(home, ca_file)
        database = f"sql:{home / '.pki' / 'nssdb'}"
        argv = ["modutil", "-dbdir", database, "-add", "OpenSC", "-libfile", MODULE, "-force"]
        subprocess.run(argv, check=True, capture_output=True, timeout=30)

    monkeypatch.setattr(browser, "trust", trust_and_load)


def _answer(screen: VirtualDisplay) -> None:
    """Type the PIN where Chromium asks for it."""
    window = screen.wait_for_window(PIN_QUESTION)
    screen.xdotool("windowactivate", "--sync", window)
    screen.xdotool("type", PIN_TEXT)
    screen.xdotool("key", "Return")


async def log_in(
    client: Client,
    newest: ssl.TLSVersion,
    screen: VirtualDisplay,
    https_ca: ThrowAwayCA,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The browser asks for the PIN and is let in as the holder; TLS 1.3 makes it sign by PSS."""
    home = folder / "home"
    home.mkdir()
    (folder / "root.pem").write_bytes(client.root.pem())
    assert KEYS[0x9A] is Algorithm.RSA_2048
    _with_module(monkeypatch)
    async with _server(https_ca, folder / "root.pem", newest) as port:
        portal = Portal(port, public=False)
        policies = Policies(
            {"AutoSelectCertificateForUrls": [f'{{"pattern":"{portal.origin}","filter":{{}}}}']}
        )
        ca_file = https_ca.ca_file
        async with chromium(screen, home, portal=portal, ca_file=ca_file, policies=policies) as context:
            page = context.pages[0] if context.pages else await context.new_page()
            loading = asyncio.create_task(page.goto(portal.origin + "/"))
            await asyncio.to_thread(_answer, screen)
            await loading
            said = await page.text_content("body")
    assert said == f"Card Holder 9A by {VERSIONS[newest]}"
