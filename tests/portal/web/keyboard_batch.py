"""*Issue multiple temporary cards* by the keyboard alone: to each control, from card to card, to the batch's end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

from protocol.messages import Proceed
from tests.support.batch_orders import begun, torn, written

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.portal.web.test_staff_pages_in_browser import Office
    from tests.support.software_agent import SoftwareAgent

_FOCUS = """() => {
  const item = document.activeElement;
  return (item.id || item.innerText || item.labels?.[0]?.innerText || '').trim();
}"""
_LISTEN = """() => {
  window.announced = [];
  const around = (node) => node.nodeType === 1 ? node : node.parentElement;
  const live = (node) => around(node)?.closest('[role=status], [role=alert], [aria-live]');
  new MutationObserver((changes) => {
    for (const { target } of changes) if (live(target)) window.announced.push(live(target).textContent.trim());
  }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
}"""
"""Note what a screen reader is told without anybody moving there: changes inside what is a live region already."""

_NO_PROGRAM = "document.getElementById('open').addEventListener('click', (event) => event.preventDefault())"
"""No program takes the link here: the browser's own question about it would take the keyboard away."""


async def a_batch_is_made_by_the_keyboard_alone(at: Office) -> None:
    """Two cards: the first is made, the second fails, and another piece takes its place."""
    await at.page.set_viewport_size({"width": 1280, "height": 780})
    # the keyboard is the page's, whichever window is in front
    devtools = await at.page.context.new_cdp_session(at.page)
    await devtools.send("Emulation.setFocusEmulationEnabled", {"enabled": True})
    await _ordered(at)
    await at.tab_to("Complete order")
    await at.page.keyboard.press("Space")
    device = await _first_card(at)
    device = await _second_card_fails(at, device)
    await _repeated_with_another_piece(at, device)
    await at.tab_to("Complete order")
    await at.page.keyboard.press("Space")
    await expect(at.page.locator(".object-head .state")).to_have_text("Closed")


async def _ordered(at: Office) -> None:
    page = at.page
    await page.goto(f"{at.origin}/start")
    await at.tab_to("Go on: Issue multiple temporary cards")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Name of the cards")).to_be_visible()
    await at.tab_to("Name of the cards")
    await page.keyboard.type("Guest")
    await at.tab_to("How many")
    await page.keyboard.type("none")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("How many")).to_be_focused()  # where something is to be mended
    at.complaints[:] = [text for text in at.complaints if "status of 422" not in text]
    await page.keyboard.press("Control+a")
    await page.keyboard.type("2")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Guest")


async def _first_card(at: Office) -> SoftwareAgent:
    """What changes is announced; number and then progress get the keyboard by themselves."""
    page = at.page
    await expect(page).to_have_title(re.compile("^Produce temporary card: Guest 1, card 1 of 2 "))
    await at.tab_to("Open Inlay")
    await page.evaluate(_LISTEN)
    await page.evaluate(_NO_PROGRAM)
    await page.keyboard.press("Enter")
    await expect(page.locator("#order")).to_have_attribute("data-path", "link")
    code = await at.kit.services.new_code(at.session, _process(page))
    agent = await at.kit.agent()
    await agent.claim(code.code)
    await agent.consent(number="417")
    await expect(page.get_by_label("Three digits")).to_be_focused()
    await page.keyboard.type("416")
    await page.keyboard.press("Enter")
    await expect(page.locator("#number-said")).to_have_text("That is not the number. 2 tries left.")
    await page.keyboard.type("417")
    await page.keyboard.press("Enter")
    assert isinstance(await agent.hear(), Proceed)
    await expect(page.locator("#number")).to_be_hidden()
    assert await page.evaluate(_FOCUS) == "progress-title"
    assert "That is not the number. 2 tries left." in await page.evaluate("window.announced")
    await written(agent, "8001")
    return agent


async def _second_card_fails(at: Office, device: SoftwareAgent) -> SoftwareAgent:
    """The page has gone on to it by itself: what is done next has the keyboard, then what is said of the failure."""
    page = at.page
    await expect(page).to_have_title(re.compile("^Produce temporary card: Guest 2, card 2 of 2 "))
    await expect(page.locator("#open")).to_be_focused()
    agent, _ = await begun(at.kit, at.session, _process(page), device)
    await torn(at.kit, agent, "8002")
    await expect(page.get_by_role("alert").filter(has_text="The card is gone.")).to_be_visible()
    await _landed(page)
    await at.tab_to("Next card", before=["Batch"])
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Guest")
    await _landed(page)
    return agent


async def _repeated_with_another_piece(at: Office, device: SoftwareAgent) -> None:
    page = at.page
    await at.tab_to("Again Guest 2")
    again = page.get_by_label("Again Guest 2")
    await expect(again).to_be_checked()  # what failed is proposed
    await page.keyboard.press("Space")
    await at.tab_to("Repeat production")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Choose at least one card.")
    at.complaints[:] = [text for text in at.complaints if "status of 422" not in text]
    await at.tab_to("Again Guest 2")
    if not await again.is_checked():
        await page.keyboard.press("Space")
    await at.tab_to("Which cards are put in")
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_label("Which cards are put in")).to_have_value("another")
    await at.tab_to("Repeat production")
    await page.keyboard.press("Enter")
    await expect(page.locator("#open")).to_be_visible()
    agent, _ = await begun(at.kit, at.session, _process(page), device)
    await written(agent, "8003")
    await expect(page.get_by_text("All cards are produced.")).to_be_visible()
    await _landed(page)


async def _landed(page: Page) -> None:
    """A page that came by itself is there, and its content has the keyboard."""
    await page.wait_for_load_state("load")
    await expect(page.locator("main")).to_be_focused()
    await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def _process(page: Page) -> str:
    return re.split("[?#]", page.url)[0].rpartition("/")[2]
