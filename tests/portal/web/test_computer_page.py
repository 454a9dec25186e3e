"""The ticket to see the readers, *Check this computer*, and the list of readers at an order's step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from portal.self_service import TICKETS
from protocol import jose
from protocol.messages import PageEvent, Step, Ticket
from protocol.page_messages import TICKET_SECONDS
from tests.portal.web.test_pages_real_portal import browser, log_in

if TYPE_CHECKING:
    from portal.views import Session
    from tests.portal.web.fake_services import FakeServices
    from tests.portal.web.visitor import Visitor
    from tests.support.portal_kit import Kit

__all__ = ["browser"]

JSON = {"Accept": "application/json"}
CARD_STEPS = {
    Step.CONSENT: ("Consent", "Inlay's window asks."),
    Step.CARD: ("Card", "Put the card in a reader of this computer."),
}


async def test_no_ticket_without_a_session(visitor: Visitor) -> None:
    page = await visitor.post("/ticket", {"csrf": "c" * 43}, **JSON)
    assert (page.status, json.loads(page.html)["error"]["error"]) == (401, "login_needed")


@pytest.mark.parametrize("origin", [None, "null", "https://elsewhere.test"])
async def test_no_ticket_for_a_page_of_another_site(person: Visitor, origin: str | None) -> None:
    page = await person.post("/ticket", {"csrf": "c" * 43}, origin, **JSON)
    assert (page.status, json.loads(page.html)["error"]["error"]) == (403, "foreign_request")


async def test_no_ticket_by_a_link(person: Visitor) -> None:
    assert (await person.get("/ticket")).status == 405


async def test_a_ticket_is_to_read_for_this_origin_and_ends_with_the_session(
    browser: Visitor, kit: Kit
) -> None:
    session = await log_in(browser, kit)
    ticket = await ticket_of(browser, kit, session)
    assert (ticket.level, ticket.origin, ticket.aud) == ("read", kit.services.info.origin, "inlay")
    assert ticket.exp - ticket.iat == TICKET_SECONDS
    kit.clock.now = session.expires_at - 60
    assert (await ticket_of(browser, kit, session)).exp == session.expires_at
    kit.clock.now = session.expires_at
    assert (await browser.post("/ticket", {"csrf": session.csrf_token}, **JSON)).status == 401


async def test_tickets_of_a_session_are_limited_and_another_session_has_its_own(
    browser: Visitor, kit: Kit
) -> None:
    session = await log_in(browser, kit)
    most, seconds = TICKETS
    for _ in range(most):
        await kit.services.ticket(session)
    page = await browser.post("/ticket", {"csrf": session.csrf_token}, **JSON)
    error = json.loads(page.html)["error"]
    assert (page.status, error["error"]) == (429, "rate_limited")
    assert error["next_step"] == "Wait a minute, then try again."
    other = await kit.login("ada@example.org")
    assert await kit.services.ticket(other)
    kit.clock.now += seconds
    assert (await ticket_of(browser, kit, session)).level == "read"


async def ticket_of(browser: Visitor, kit: Kit, session: Session) -> Ticket:
    """What the page gets, read as an agent reads it."""
    page = await browser.post("/ticket", {"csrf": session.csrf_token}, **JSON)
    assert (page.status, page.headers["Cache-Control"]) == (200, "no-store")
    keys = [key.public for key in kit.portal.keys.order_keys()]
    return jose.verify(json.loads(page.html)["ticket"], jose.TICKET, keys, Ticket)


async def test_the_page_of_this_computer_is_for_whoever_is_logged_in(person: Visitor) -> None:
    page = await person.get("/computer")
    assert (page.status, page.one("h1").text) == (200, "Check this computer")
    assert "inlay doctor" in page.one("*", id="readers-said").text
    assert page.one("a", href="/computer").attributes["aria-current"] == "page"


async def test_readers_stand_at_the_step_of_a_card_for_a_reader_alone(
    person: Visitor, services: FakeServices
) -> None:
    waiting = PageEvent(state="waiting")
    services.at("open", order=waiting)
    assert (await person.get("/processes/process-1")).all("section", id="readers") == []
    services.at("open", order=waiting, progress=CARD_STEPS)
    page = await person.get("/processes/process-1")
    assert "Inlay's window says which card it waits for" in page.one("section", id="readers").text
    assert page.one("section", id="readers").attributes["data-csrf"] == "c" * 43
    services.at("details", order=PageEvent(state="finished"), progress=CARD_STEPS)
    assert (await person.get("/processes/process-1")).all("section", id="readers") == []
