"""The real browser under test does what real browsers do: links, questions, permissions, TLS."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.support.browser import Policies, Portal, chromium, home_env
from tests.support.browser_questions import Question, answer, look, wait_for
from tests.support.certificates import ThrowAwayCA
from tests.support.processes import NotReadyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import BrowserContext, Page

    from tests.support.display import VirtualDisplay

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LINK = "inlay:portal.test:8443/ABCDEFGHJKMNPQRSTVWXYZ0123?a=1&b=%27;%20x"
PAGE = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Harness</title>
<p><a id="open" href="{LINK.replace("&", "&amp;")}">Open Inlay</a></p></html>"""
PERMISSION = "navigator.permissions.query({name: 'loopback-network'}).then(status => status.state)"


@dataclass
class Stage:
    """A page under test, a program on loopback, and a registered link handler."""

    portal: Portal
    ca: ThrowAwayCA
    display: VirtualDisplay
    home: Path
    agent_port: int
    origins: list[str | None]
    recorded: Path

    @asynccontextmanager
    async def page(self, policies: Policies | None = None) -> AsyncIterator[Page]:
        """The page, opened in a browser of its own."""
        browser = chromium(
            self.display, self.home, portal=self.portal, ca_file=self.ca.ca_file, policies=policies
        )
        async with browser as context:
            yield await self.visit(context)

    async def visit(self, context: BrowserContext) -> Page:
        """The page in the first tab."""
        page = context.pages[0]
        await page.goto(self.portal.origin)
        return page

    async def connect(self, page: Page) -> None:
        """Let the page open a WebSocket to the program on loopback; ``seen`` collects its events."""
        await page.evaluate(
            """port => {
                window.seen = [];
                const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
                for (const kind of ['open', 'message', 'error', 'close'])
                    socket.addEventListener(kind, event => seen.push([kind, event.code ?? event.data ?? null]));
            }""",
            self.agent_port,
        )

    async def link(self) -> str:
        """What the link handler was given, as soon as it was."""
        for _ in range(500):
            if self.recorded.exists():
                return self.recorded.read_text()
            await asyncio.sleep(0.02)
        raise NotReadyError("the link at its handler", 10)


@pytest.fixture
async def stage(xvfb: VirtualDisplay, https_ca: ThrowAwayCA, tmp_path: Path) -> AsyncIterator[Stage]:
    """Both servers running, the handler registered by xdg-mime."""
    origins: list[str | None] = []

    async def greet(request: web.Request) -> web.WebSocketResponse:
        origins.append(request.headers.get("Origin"))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("hello")
        await socket.receive()
        return socket

    async def show(_request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def serve(handler: object, **options: object) -> tuple[web.AppRunner, int]:
        app = web.Application()
        app.router.add_get("/", handler)  # type: ignore[arg-type]
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, **options).start()  # type: ignore[arg-type]
        return runner, runner.addresses[0][1]

    portal_runner, portal_port = await serve(show, ssl_context=https_ca.server_context())
    agent_runner, agent_port = await serve(greet)
    home = tmp_path / "home"
    home.mkdir()
    recorded = _register_handler(home, xvfb)
    yield Stage(Portal(portal_port), https_ca, xvfb, home, agent_port, origins, recorded)
    await agent_runner.cleanup()
    await portal_runner.cleanup()


def _register_handler(home: Path, display: VirtualDisplay) -> Path:
    recorded, handler = home / "recorded", home / "handler"
    handler.write_text(f'#!/bin/sh\nprintf "%s" "$*" >{recorded}.new && mv {recorded}.new {recorded}\n')
    handler.chmod(0o755)
    applications = home / ".local/share/applications"
    applications.mkdir(parents=True)
    (applications / "harness.desktop").write_text(
        "[Desktop Entry]\nType=Application\nName=Harness\n"
        f"Exec={shlex.quote(str(handler))} open -- %u\nMimeType=x-scheme-handler/inlay;\n"
    )
    command = ["xdg-mime", "default", "harness.desktop", "x-scheme-handler/inlay"]
    subprocess.run(command, env=home_env(display, home), check=True)
    return recorded


async def _eventually(page: Page, expression: str) -> object:
    handle = await page.wait_for_function(expression, timeout=15_000)
    return await handle.json_value()


async def test_unknown_authority_is_refused(stage: Stage, tmp_path: Path) -> None:
    """Without the CA in the profile the page isn't shown: nothing about TLS is switched off."""
    other = tmp_path / "other-ca"
    other.mkdir()
    stage.ca = ThrowAwayCA(other)
    with pytest.raises(Exception, match="ERR_CERT_AUTHORITY_INVALID"):
        async with stage.page():
            pass


async def test_link_question_refused(stage: Stage) -> None:
    """Cancel: the handler isn't started."""
    async with stage.page() as page:
        await page.click("#open")
        await answer(stage.display, Question.OPEN_LINK, yes=False)
        assert await look(stage.display) is None
    assert not stage.recorded.exists()


async def test_link_question_accepted(stage: Stage) -> None:
    """Open: xdg-open starts the registered handler with the whole link, as one argument."""
    async with stage.page() as page:
        await page.click("#open")
        await answer(stage.display, Question.OPEN_LINK, yes=True)
        assert await stage.link() == f"open -- {LINK}"


async def test_link_without_question_by_policy(stage: Stage) -> None:
    """A managed policy opens the link at once."""
    async with stage.page(Policies().launch_links("inlay", stage.portal.origin)) as page:
        await page.click("#open")
        assert await stage.link() == f"open -- {LINK}"


async def test_loopback_undecided_waits_then_allowed(stage: Stage) -> None:
    """No decision: the socket stays pending and nothing arrives until the person says Allow."""
    async with stage.page() as page:
        assert await page.evaluate(PERMISSION) == "prompt"
        await stage.connect(page)
        await wait_for(stage.display, Question.LOOPBACK)
        assert await page.evaluate("seen") == []
        assert stage.origins == []
        await answer(stage.display, Question.LOOPBACK, yes=True)
        assert await _eventually(page, "seen.length >= 2 && seen") == [["open", None], ["message", "hello"]]
        assert await page.evaluate(PERMISSION) == "granted"
    assert stage.origins == [stage.portal.origin]


async def test_loopback_undecided_then_blocked(stage: Stage) -> None:
    """Block: an error, close code 1006, and nothing ever arrives."""
    async with stage.page() as page:
        await stage.connect(page)
        await answer(stage.display, Question.LOOPBACK, yes=False)
        assert await _eventually(page, "seen.length >= 2 && seen") == [["error", None], ["close", 1006]]
        assert await page.evaluate(PERMISSION) == "denied"
    assert stage.origins == []


async def test_loopback_granted_by_policy(stage: Stage) -> None:
    """A managed policy: open at once, without a question."""
    async with stage.page(Policies().allow_loopback(stage.portal.origin)) as page:
        assert await page.evaluate(PERMISSION) == "granted"
        await stage.connect(page)
        assert await _eventually(page, "seen.length >= 2 && seen") == [["open", None], ["message", "hello"]]
    assert stage.origins == [stage.portal.origin]


async def test_loopback_denied_by_policy(stage: Stage) -> None:
    """A managed policy: refused at once, and the page can see that it is denied."""
    async with stage.page(Policies().block_loopback(stage.portal.origin)) as page:
        assert await page.evaluate(PERMISSION) == "denied"
        await stage.connect(page)
        assert await _eventually(page, "seen.length >= 2 && seen") == [["error", None], ["close", 1006]]
    assert stage.origins == []


async def test_loopback_page_needs_no_permission(stage: Stage) -> None:
    """A page that itself comes from loopback connects at once: tests must make theirs public."""
    stage.portal = Portal(stage.portal.port, public=False)
    async with stage.page() as page:
        await stage.connect(page)
        assert await _eventually(page, "seen.length >= 2 && seen") == [["open", None], ["message", "hello"]]
        assert await look(stage.display) is None


def test_policies_stay_in_the_run() -> None:
    """Policy files are private: init's file system doesn't have them."""
    Policies({"HomepageLocation": "https://portal.test"}).install()
    try:
        if os.access("/proc/1/root", os.X_OK):
            assert not os.path.exists("/proc/1/root/etc/chromium/policies/managed/inlay-test.json")
    finally:
        Policies.remove()
