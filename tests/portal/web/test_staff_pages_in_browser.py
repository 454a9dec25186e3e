"""Staff's pages in a real Chromium: by the keyboard alone, without a script, 360 pixels wide, under the policy."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from playwright.async_api import expect

from portal.web import setup, setup_staff
from tests.portal.web.keyboard_batch import a_batch_is_made_by_the_keyboard_alone
from tests.support.browser import Policies, Portal, chromium
from tests.support.portal_kit import PASSWORD, Kit, running_portal
from tests.support.staff_screenshots import STAFF, Stage, save_options, scenes, set_stage
from tests.support.stored_objects import state_of_card

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Page

    from portal.views import Session
    from tests.support.certificates import ThrowAwayCA
    from tests.support.display import VirtualDisplay

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

_PORT = 8443
_TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_NAMELESS = """[...document.querySelectorAll('a, button, input:not([type=hidden]), select, summary')]
  .filter((item) => !(item.textContent.trim() || item.labels?.length)).map((item) => item.outerHTML)"""

_STOPS = """[...document.querySelectorAll('a, button, input:not([type=hidden]), select, summary')]
  .filter((item) => item.checkVisibility({ contentVisibilityAuto: true })).length"""
_UNSEEN_FOCUS = """() => {
  const item = document.activeElement, box = item.getBoundingClientRect(), style = getComputedStyle(item);
  const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  const inside = box.left >= 0 && box.right <= innerWidth && box.bottom > 0 && box.top < innerHeight;
  return item !== document.body && outlined && inside && box.width > 0 ? null : item.outerHTML;
}"""


_NAME = """() => {
  const item = document.activeElement;
  return (item.labels?.[0] ?? item).textContent.replace(/\\s+/g, ' ').trim();
}"""


@dataclass
class Office:
    """Somebody with every role at a browser; ``complaints`` is what is on its console."""

    kit: Kit
    session: Session
    stage: Stage
    origin: str
    page: Page
    complaints: list[str]

    async def tab_to(self, text: str, *, before: list[str] | None = None) -> None:
        """Press Tab until the element with this text or label has the keyboard; each stop on the way is seen.

        Args:
            text: of the element.
            before: those of all stops before it, where it matters.
        """
        passed: list[str] = []
        for _ in range(60):
            await self.page.keyboard.press("Tab")
            if await self.page.evaluate("document.activeElement.matches('body, main')"):
                continue  # on its way through the browser's own controls, or not yet off a page's content
            hidden = await self.page.evaluate(_UNSEEN_FOCUS)
            assert hidden is None, f"no focus to be seen on {hidden}"
            there = await self.page.evaluate(_NAME)
            if there == text:
                assert before is None or passed == before
                return
            passed.append(there)
        raise AssertionError(f"no Tab leads to {text}, only to {passed}")


@asynccontextmanager
async def office(xvfb: VirtualDisplay, ca: ThrowAwayCA, work: Path) -> AsyncIterator[Office]:
    """A portal with objects, its pages over TLS, a browser in which somebody is logged in."""
    app = web.Application()
    portal = Portal(_PORT)
    async with running_portal(work, origin=portal.origin) as kit:
        setup(app, kit.services)
        setup_staff(app, kit.portal.operator, kit.portal.administrator, kit.portal.batches)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", _PORT, ssl_context=ca.server_context()).start()
        await kit.portal.accounts.add("olga@example.org", "Olga Example", PASSWORD, STAFF)
        login = await kit.services.login("olga@example.org", PASSWORD, "192.0.2.1")
        stage = await set_stage(kit, login.session)
        await save_options(kit, login.session)
        policies = Policies().block_loopback(portal.origin)
        try:
            async with chromium(xvfb, work, portal=portal, ca_file=ca.ca_file, policies=policies) as context:
                page, complaints = context.pages[0], list[str]()
                page.on("console", lambda message: _note(complaints, message.type, message.text))
                cookie = {"name": "__Host-inlay-session", "value": login.token, "url": portal.origin}
                await context.add_cookies([cookie | {"secure": True, "httpOnly": True}])  # type: ignore[list-item]
                yield Office(kit, login.session, stage, portal.origin, page, complaints)
        finally:
            await runner.cleanup()


def _note(complaints: list[str], kind: str, text: str) -> None:
    """Errors, warnings and violations of the policy; not what the browser merely suggests."""
    if kind in ("error", "warning"):
        complaints.append(f"{kind}: {text}")


async def test_staff_s_pages(xvfb: VirtualDisplay, https_ca: ThrowAwayCA, tmp_path: Path) -> None:
    """One browser for all of it: starting it takes longer than the rest."""
    async with office(xvfb, https_ca, tmp_path) as at:
        await _every_page_fits_and_says_its_names(at)
        await _the_focus_is_seen_wherever_tab_leads(at)
        await _a_card_is_found_and_locked_by_the_keyboard_alone(at)
        await _a_temporary_card_is_found_and_extended_by_the_keyboard_alone(at)
        await a_batch_is_made_by_the_keyboard_alone(at)
        assert at.complaints == []


async def _every_page_fits_and_says_its_names(at: Office) -> None:
    await at.page.set_viewport_size({"width": 360, "height": 780})
    for name, path in scenes(at.stage).items():
        answer = await at.page.goto(at.origin + path)
        assert answer is not None
        # a page that says what is wrong with a filter has a status of its own, which Chromium notes
        expected = 422 if name == "search-wrong" else 200
        assert answer.status == expected, name
        assert await at.page.evaluate(_TOO_WIDE) <= 0, f"{name} is wider than 360 pixels"
        assert await at.page.evaluate(_NAMELESS) == [], name
        assert await at.page.locator("h1").count() == 1, name
        # staff's own pages do without; that of an order goes on by itself
        assert path.startswith("/processes/") or await at.page.locator("script").count() == 0, name
    at.complaints[:] = [text for text in at.complaints if "status of 422" not in text]


async def _the_focus_is_seen_wherever_tab_leads(at: Office) -> None:
    """On the pages about cards, 360 pixels wide: each stop of Tab has an outline, and lies inside the window."""
    for name, path in at.stage.cards.items():
        await at.page.goto(at.origin + path)
        await at.page.wait_for_function("document.hasFocus()")
        stops = await at.page.evaluate(_STOPS)
        assert stops > 5, name
        for number in range(stops):
            await at.page.keyboard.press("Tab")
            hidden = await at.page.evaluate(_UNSEEN_FOCUS)
            assert hidden is None, f"{name}: stop {number + 1} of {stops}, {hidden}"


async def _a_card_is_found_and_locked_by_the_keyboard_alone(at: Office) -> None:
    page = at.page
    await page.set_viewport_size({"width": 1280, "height": 780})
    await page.goto(f"{at.origin}/start")
    await at.tab_to("Search")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Search")
    await at.tab_to("Text")
    await page.keyboard.type("ada@")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="1 found")).to_be_visible()
    await at.tab_to("Virtual smart card ada@example.org")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="What can be done")).to_be_visible()
    await at.tab_to("Lock: go on")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Lock")
    await at.tab_to("Next")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Reason")).to_be_focused()
    await expect(page.locator("#Reason-error")).to_be_visible()
    at.complaints[:] = [text for text in at.complaints if "status of 422" not in text]
    await page.keyboard.type("reported lost")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Finished.")).to_be_visible()
    assert await state_of_card(at.kit, at.stage.card) == "Locked"


async def _a_temporary_card_is_found_and_extended_by_the_keyboard_alone(at: Office) -> None:
    """The seed's steps without encoding."""
    page = at.page
    await page.goto(f"{at.origin}/admin/options/TempCardsScriptOptions")
    await page.get_by_label("Encode when extended").set_checked(checked=False)
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
    await page.goto(f"{at.origin}/operator/search?kind=temporary_card")
    await page.get_by_label("State").select_option("Assigned")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("heading", name="1 found")).to_be_visible()
    await at.tab_to("Visitor 7")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="What can be done")).to_be_visible()
    await at.tab_to("Extend temporary card: go on")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Extend temporary card")
    await at.tab_to("Next")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Finished.")).to_be_visible()
