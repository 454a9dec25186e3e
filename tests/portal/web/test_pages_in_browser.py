"""The page of *Open Inlay* in a real Chromium: the direct way, the link, the number, moving on by itself."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from playwright.async_api import expect

from portal.model.states import Role
from portal.web import setup
from protocol.messages import PageEvent, Step
from tests.portal.web.fake_services import FakeServices, card
from tests.portal.web.loopback_agent import LoopbackAgent, loopback_agent
from tests.support.browser import Policies, Portal, chromium

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

    from tests.support.certificates import ThrowAwayCA
    from tests.support.display import VirtualDisplay

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

PROCESS = "/processes/process-1"
_SEARCHES = 10
WAITING = PageEvent(state="waiting")
PAGES = (
    "/login",
    "/start",
    "/cards",
    "/help",
    "/nowhere",
    "/admin/options/VirtualSmartCardScriptOptions",
    PROCESS,
)


@dataclass
class Desk:
    """A person's browser, the portal and the agent.

    Attributes:
        complaints: what is on the browser's console: errors, warnings, violations of the page's policy.
    """

    services: FakeServices
    agent: LoopbackAgent
    portal: Portal
    page: Page
    complaints: list[str]

    async def show(self, path: str) -> None:
        await self.page.goto(self.portal.origin + path)

    async def found_directly(self) -> None:
        """The page found the agent; where a busy machine took longer than the page looks, it is shown again."""
        order = self.page.locator("#order")
        for _ in range(_SEARCHES):
            await expect(order).to_have_attribute("data-found", re.compile("."))
            if await order.get_attribute("data-found") == "loopback":
                return
            await self.page.reload()
        pytest.fail(f"no agent found in {_SEARCHES} searches")

    @property
    def errors(self) -> list[str]:
        """Complaints but for ports where no agent was found: a browser notes each, and no page can hinder it."""
        return [text for text in self.complaints if ": WebSocket connection to 'ws://127.0.0.1:" not in text]

    async def focused(self) -> str:
        """Text of the element that has the keyboard; whether the window is in front doesn't matter."""
        text: str = await self.page.evaluate("document.activeElement.innerText")
        return text.strip()

    async def event(self, event: PageEvent) -> None:
        """The order moves: stored, and told to the page."""
        self.services.change(order=event)
        self.services.event_queue.put_nowait(event)


@asynccontextmanager
async def desk(
    xvfb: VirtualDisplay,
    ca: ThrowAwayCA,
    home: Path,
    *,
    host: str = "portal.test",
    granted: bool | None = None,
) -> AsyncIterator[Desk]:
    """Everything started, the person logged in. ``granted``: the administrator's policy, if there is one."""
    app = web.Application()
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    services = FakeServices()
    setup(app, services)
    services.now = int(time.time())
    services.user = replace(services.user, roles=frozenset({Role.SELF_SERVICE, Role.ADMINISTRATOR}))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ca.server_context()).start()
    portal = Portal(runner.addresses[0][1], host=host, public=host != "localhost")
    services.info = replace(services.info, id=portal.origin.removeprefix("https://"), origin=portal.origin)
    policies = Policies()
    if granted is not None:
        (policies.allow_loopback if granted else policies.block_loopback)(portal.origin)
    try:
        async with (
            loopback_agent() as agent,
            chromium(xvfb, home, portal=portal, ca_file=ca.ca_file, policies=policies) as context,
        ):
            page, complaints = context.pages[0], list[str]()
            page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
            cookie = {"name": "__Host-inlay-session", "value": services.open_session(), "url": portal.origin}
            await context.add_cookies([cookie | {"secure": True, "httpOnly": True}])  # type: ignore[list-item]
            yield Desk(services, agent, portal, page, complaints)
            services.event_queue.put_nowait(None)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("host", "granted"), [("portal.test", True), ("localhost", None)])
async def test_the_direct_way(
    xvfb: VirtualDisplay, https_ca: ThrowAwayCA, tmp_path: Path, host: str, granted: bool | None
) -> None:
    """One click; the rest the page does by itself, but for the number."""
    async with desk(xvfb, https_ca, tmp_path, host=host, granted=granted) as at:
        services, agent, page = at.services, at.agent, at.page
        services.at("open", order=WAITING)
        await at.show(PROCESS)
        await at.found_directly()
        assert agent.opened.empty()
        await page.get_by_role("link", name="Open Inlay").click()
        taken = await asyncio.wait_for(agent.opened.get(), 10)
        assert (taken.portal, taken.code) == (services.info.id, f"{1:022}")
        assert set(agent.origins) == {at.portal.origin}
        await agent.progress(Step.CONSENT)
        await expect(page.locator("#said")).to_have_text(
            "Inlay's window asks for your consent and a new PIN."
        )

        await at.event(PageEvent(state="running", step=Step.BINDING, number_wanted=True, tries_left=3))
        field = page.get_by_label("Three digits")
        await expect(field).to_be_focused()
        await expect(page.locator("#hero")).to_be_hidden()
        await page.keyboard.type("111")
        await page.keyboard.press("Enter")
        await expect(page.locator("#number-said")).to_have_text("That is not the number. 2 tries left.")
        await page.keyboard.type("042")
        await page.keyboard.press("Enter")
        await expect(field).to_be_hidden()
        await agent.complete("n" * 43)
        await at.event(PageEvent(state="running", step=Step.KEYS))
        await expect(page.locator("li.now[data-step]")).to_have_text("Keys")
        assert services.completions == ["n" * 43]
        services.change(cancel_effect="The card is being changed: it will be Failed.")
        cancel = page.locator("details.cancel")
        await expect(cancel.locator("p")).to_have_text("Nothing was made yet. The process is closed.")
        await cancel.locator("summary").click()
        await expect(cancel.locator("p")).to_have_text("The card is being changed: it will be Failed.")

        services.at("details", card=card(), order=PageEvent(state="finished"))
        await agent.finish()
        services.event_queue.put_nowait(PageEvent(state="finished"))
        await expect(page.get_by_role("heading", name="Virtual smart card demo@portal.test")).to_be_visible()
        await page.get_by_role("button", name="Next").click()
        await expect(page).to_have_url(f"{at.portal.origin}/cards")
        assert at.errors == []


async def test_blocked_or_silent_the_link_and_the_typed_code(
    xvfb: VirtualDisplay, https_ca: ThrowAwayCA, tmp_path: Path
) -> None:
    """Blocked by policy: nothing is sent to this machine. Then silence, a code too old, and an end with its cause."""
    async with desk(xvfb, https_ca, tmp_path, granted=False) as at:
        services, page = at.services, at.page
        services.at("open", order=WAITING)
        await page.clock.install()
        await at.show(PROCESS)
        link = page.get_by_role("link", name="Open Inlay")
        await expect(page.locator("#order")).to_have_attribute("data-found", "link")
        await link.click()
        await expect(page.locator("#order")).to_have_attribute("data-path", "link")
        assert at.agent.origins == []
        await expect(page.locator("#silence")).to_be_hidden()
        await page.clock.fast_forward(8_500)
        await expect(page.locator("#silence")).to_be_visible()
        await expect(page.locator("#typed-code")).to_have_text("00001-7KQ2M")

        services.now += 131  # before the page's clock: it may ask for a code as soon as its own is too old
        await page.clock.fast_forward(121_000)
        await link.click()
        await expect(link).to_have_attribute("href", f"inlay:{services.info.id}/{2:022}")
        await expect(page.locator("#typed-code")).to_have_text("00002-7KQ2M")
        await expect(page.locator("#silence")).to_be_hidden()

        await at.event(PageEvent(state="running", step=Step.CONSENT))
        await expect(page.locator("#last-way")).to_be_hidden()
        services.change(state="cancelled", can_cancel=False)
        services.event_queue.put_nowait(PageEvent(state="undone"))
        await expect(page.get_by_role("link", name="To the start page")).to_be_visible()
        assert at.errors == []


async def test_every_page_fits_a_narrow_screen_and_takes_the_keyboard(
    xvfb: VirtualDisplay, https_ca: ThrowAwayCA, tmp_path: Path
) -> None:
    async with desk(xvfb, https_ca, tmp_path, granted=False) as at:
        at.services.card_views = [card(label="A name that is longer than a narrow screen has room for " * 2)]
        await at.page.set_viewport_size({"width": 360, "height": 800})
        for step in ("information", "open", "details"):
            at.services.at(step, order=WAITING if step == "open" else None)
            for path in PAGES if step == "open" else (PROCESS,):
                await at.show(path)
                wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert await at.page.evaluate(wide) == 0, (path, step)
        at.services.at("information")
        await at.show(PROCESS)
        # the keyboard is the page's, whichever window is in front
        devtools = await at.page.context.new_cdp_session(at.page)
        await devtools.send("Emulation.setFocusEmulationEnabled", {"enabled": True})
        await at.page.keyboard.press("Tab")
        assert await at.focused() == "Skip to content"
        await at.page.keyboard.press("Enter")
        await at.page.keyboard.press("Tab")
        assert await at.focused() == "Next"
        await at.page.keyboard.press("Tab")
        await at.page.keyboard.press("Enter")
        await expect(at.page.get_by_text("Nothing was made yet.")).to_be_visible()
        await at.page.keyboard.press("Tab")
        await at.page.keyboard.press("Enter")
        await expect(at.page.get_by_text("The process was cancelled.")).to_be_visible()


@pytest.mark.parametrize(
    "name", ["Olga Example", "A name that is longer than what is left of the line has room for"]
)
async def test_the_head_of_a_page_is_one_line_for_who_has_every_role(
    xvfb: VirtualDisplay, https_ca: ThrowAwayCA, tmp_path: Path, name: str
) -> None:
    async with desk(xvfb, https_ca, tmp_path, granted=False) as at:
        roles = frozenset({Role.SELF_SERVICE, Role.OPERATOR, Role.ADMINISTRATOR, Role.APPROVER})
        at.services.user = replace(at.services.user, name=name, roles=roles)
        at.services.info = replace(at.services.info, name="Example portal")
        for width in (1280, 1920):
            await at.page.set_viewport_size({"width": width, "height": 800})
            await at.show("/cards")
            head = at.page.locator(".bar-inner")
            middles = await head.locator("a, button").evaluate_all(
                "found => found.map(one => one.getBoundingClientRect()).map(at => Math.round(at.y + at.height / 2))"
            )
            assert len(middles) == 9
            assert max(middles) - min(middles) <= 2, middles
            said = head.locator(".brand span, .who > span")
            heights = await said.evaluate_all("found => found.map(one => one.getBoundingClientRect().height)")
            assert max(heights) < 1.3 * min(heights)
            cut = await said.last.evaluate("one => one.scrollWidth > one.clientWidth")
            assert cut == (len(name) > 20)
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert await at.page.evaluate(wide) == 0
