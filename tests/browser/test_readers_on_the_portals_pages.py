"""Readers and cards on the portal's own pages, live: real portal, agent, Chromium, and a pcscd that goes and comes."""

from __future__ import annotations

import asyncio
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.browser.test_extend_temporary_card import assigned, card_page, start
from tests.browser.test_extend_temporary_card import holder as holder
from tests.cards.profiles import PROFILES
from tests.cards.simulated import SimulatedCard
from tests.support.browser import Policies
from tests.support.wired_card import WiredCard

if TYPE_CHECKING:
    from playwright.async_api import Locator

    from tests.browser.conftest import UseCase
    from tests.support.pcscd import PrivatePcscd
    from tests.support.person import Person
    from tests.support.portal_process import Account

pytestmark = [pytest.mark.browser, pytest.mark.interop, pytest.mark.timeout(240)]

LASTING = ThreadPoolExecutor(1)
"""pcscd ends with the thread that started it (PR_SET_PDEATHSIG): this one lasts as long as the test run."""


@pytest.fixture
def roles() -> tuple[str, ...]:
    return ("operator",)


async def pictures(person: Person, name: str) -> None:
    """The page fits a telephone's screen, light and dark. The last that is done: the window stays so."""
    for scheme in ("light", "dark"):
        await person.page.emulate_media(color_scheme=scheme)
        for width in (1280, 360):
            await person.page.set_viewport_size({"width": width, "height": 900})
            inside = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert await person.page.evaluate(inside)
            picture = person.display.folder / f"{name}-{width}-{scheme}.png"
            await person.page.screenshot(path=picture, full_page=True)


def row(person: Person, reader: str) -> Locator:
    return person.page.locator("#readers-list > li").filter(has_text=reader)


async def test_what_comes_and_goes_is_seen_without_a_reload(
    use_case: UseCase, holder: Account, pcscd: PrivatePcscd
) -> None:
    """*Check this computer*, then the step of an order: a card in and out; service and agent go and come back."""
    reader, loop = pcscd.readers[6], asyncio.get_running_loop()
    allowed = Policies().allow_loopback(use_case.address.origin)
    async with use_case.browser(allowed) as person:
        page, said = person.page, person.page.locator("#readers-said")
        await page.goto(f"{use_case.address.origin}/computer")
        await expect(said).to_contain_text("No card is in 8 readers.")
        await page.evaluate("window.stayed = true")
        with WiredCard.simulated(pcscd.vpcd_ports[6], SimulatedCard(PROFILES[0])):
            await expect(row(person, reader)).to_contain_text("Card")
            await expect(said).to_contain_text("A card is in one of 8 readers.")
            driver = row(person, reader).locator("[data-code=card_driver]")
            await expect(driver).to_contain_text("used by the driver piv")
        await expect(row(person, reader)).to_contain_text("Empty")
        await loop.run_in_executor(LASTING, pcscd.stop)
        try:
            await expect(said).to_contain_text("its PC/SC service does not answer")
            await expect(page.locator("#readers-list")).to_be_hidden()
            # its socket stays behind, or goes with it
            await expect(page.locator("[data-code^=service_].finding-problem")).to_be_visible()
        finally:
            await loop.run_in_executor(LASTING, pcscd.start)
        await expect(said).to_contain_text("No card is in 8 readers.")
        await asyncio.to_thread(use_case.desk.agent.stop)
        await expect(page.locator("#readers-again")).to_be_visible()
        await asyncio.to_thread(use_case.desk.agent.start)
        await expect(said).to_contain_text("No card is in 8 readers.")
        assert await page.evaluate("window.stayed")

        label = f"Visitor {secrets.token_hex(2)}"
        await page.goto(f"{use_case.address.origin}/start")
        await assigned(person, label, holder)
        await card_page(person, label, "Assigned")
        await start(person, "Extend temporary card")
        await expect(said).to_contain_text("No card is in 8 readers.")
        with WiredCard.simulated(pcscd.vpcd_ports[6], SimulatedCard(PROFILES[0])):
            await expect(row(person, reader).locator(".state")).to_have_text("Card")
            await pictures(person, "order")
            await page.goto(f"{use_case.address.origin}/computer")
            await expect(driver).to_contain_text("used by the driver piv")
            await pictures(person, "computer")
        await expect(row(person, reader).locator(".state")).to_have_text("Empty")
        await expect(driver).to_have_count(0)


async def test_a_browser_that_keeps_the_page_from_inlay_breaks_nothing(
    use_case: UseCase, pcscd: PrivatePcscd
) -> None:
    """Not asked yet: the page asks by a click alone, and says where else to look."""
    assert pcscd.readers
    async with use_case.browser() as person:
        await person.page.goto(f"{use_case.address.origin}/computer")
        said = person.page.locator("#readers-said")
        await expect(said).to_contain_text("has not been asked yet")
        await expect(said).to_contain_text("inlay doctor")
        button = person.page.get_by_role("button", name="Show readers")
        await button.focus()
        await expect(button).to_be_focused()
        assert re.fullmatch(
            r"permission_prompt", await person.page.get_attribute("#readers", "data-readers") or ""
        )
