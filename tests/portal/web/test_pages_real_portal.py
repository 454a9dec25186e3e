"""The pages over the real portal: a person at the pages, a device at the channel."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from portal.model.states import Role, UserState
from portal.processes.show_puk import ShowPuk
from portal.store.tables import User
from portal.web import setup
from protocol import link
from protocol.messages import Transport
from tests.portal.web.visitor import Visitor
from tests.support.portal_kit import P256, PASSWORD, PROCESS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp.test_utils import TestClient

    from portal.views import Session
    from tests.portal.web.visitor import Page
    from tests.support.portal_kit import Kit

EMAIL = "ada@example.org"
OPTIONS = "/admin/options/VirtualSmartCardScriptOptions"
NUMBER = "417"


@pytest.fixture
async def browser(
    kit: Kit, aiohttp_client: Callable[[web.Application], Awaitable[TestClient[web.Request, web.Application]]]
) -> Visitor:
    """A browser that is not logged in, at pages of their own server over the kit's services."""
    app = web.Application()
    setup(app, kit.services)
    return Visitor(await aiohttp_client(app), kit.services)


async def log_in(browser: Visitor, kit: Kit, *roles: Role, email: str = EMAIL) -> Session:
    await kit.person(email, roles or (Role.SELF_SERVICE,))
    page = await browser.submit(await browser.get("/login"), "/login", email=email, password=PASSWORD)
    assert page.location == "/start"
    session = await kit.services.session(browser.cookies["__Host-inlay-session"])
    assert session is not None
    return session


async def at_open(browser: Visitor) -> tuple[str, Page]:
    """From the start page to *Open Inlay*."""
    begun = await browser.submit(await browser.get("/start"), "/processes", name=PROCESS)
    moved = await browser.submit(await browser.get(begun.location), f"{begun.location}/next")
    assert moved.location == begun.location
    return begun.location, await browser.get(moved.location)


def code_of(page: Page) -> str:
    return link.parse(page.one("a", id="open").attributes["href"]).code


@asynccontextmanager
async def events(browser: Visitor, path: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    headers = {"Cookie": f"__Host-inlay-session={browser.cookies['__Host-inlay-session']}"}

    async def read() -> AsyncIterator[dict[str, Any]]:
        async for line in stream.content:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))

    async with asyncio.timeout(20), browser.client.get(f"{path}/events", headers=headers) as stream:
        assert stream.status == 200
        yield read()


async def test_not_active_neither_offered_nor_started_by_hand(browser: Visitor, kit: Kit) -> None:
    session = await log_in(browser, kit)
    async with kit.database.write() as tx:
        (await tx.get_one(User, session.user.id)).state = UserState.INACTIVE.value
    start = await browser.get("/start")
    assert "Your account is inactive; it must be active." in start.text
    page = await browser.post("/processes", {"csrf": session.csrf_token, "name": PROCESS})
    assert page.status == 403
    assert "Your account is inactive; it must be active." in page.text


async def test_another_persons_process_is_not_there(browser: Visitor, kit: Kit) -> None:
    other = await kit.person("eve@example.org")
    view, _ = await kit.at_open(other)
    session = await log_in(browser, kit)
    assert (await browser.get(f"/processes/{view.id}")).status == 404
    assert (await browser.get(f"/processes/{view.id}/events")).status == 404
    for action in ("next", "cancel", "code", "number", "completion"):
        form = {"csrf": session.csrf_token, "expected_version": str(view.version), "number": NUMBER}
        assert (await browser.post(f"/processes/{view.id}/{action}", form)).status == 404


async def test_next_twice_is_one_step_and_an_old_page_is_said(browser: Visitor, kit: Kit) -> None:
    await log_in(browser, kit)
    begun = await browser.submit(await browser.get("/start"), "/processes", name=PROCESS)
    information = await browser.get(begun.location)
    for _ in range(2):
        assert (await browser.submit(information, f"{begun.location}/next")).location == begun.location
    view = await kit.services.process(await kit.login(), begun.location.rpartition("/")[2])
    assert view.step == "open"
    form = information.hidden(f"{begun.location}/next") | {"expected_version": "0"}
    stale = await browser.post(f"{begun.location}/next", form)
    assert stale.location == f"{begun.location}?stale"


async def test_the_third_wrong_number_undoes_the_order_and_says_so(browser: Visitor, kit: Kit) -> None:
    await log_in(browser, kit)
    path, page = await at_open(browser)
    agent = await kit.agent()
    await agent.claim(code_of(page))
    await agent.consent(number=NUMBER)
    async with events(browser, path) as stream:
        async for event in stream:
            if event.get("number_wanted"):
                break
    page = await browser.get(path)
    for left in (2, 1):
        wrong = await browser.submit(page, f"{path}/number", number="000")
        assert wrong.location == f"{path}?wrong"
        assert f"{left} {'tries' if left > 1 else 'try'} left." in (await browser.get(wrong.location)).text
    assert (await browser.submit(page, f"{path}/number", number="000")).status == 409
    ended = await browser.get(path)
    assert "The number was wrong three times." in ended.text
    assert await kit.services.cards(await kit.login()) == []


async def test_a_wrong_completion_is_refused(browser: Visitor, kit: Kit) -> None:
    session = await log_in(browser, kit)
    agent = await kit.known_agent(session)
    path, page = await at_open(browser)
    await agent.claim(code_of(page), Transport.LOOPBACK, agent.origin)
    form = {"csrf": session.csrf_token, "completion": "x" * 43}
    refused = await browser.post(f"{path}/completion", form, Accept="application/json")
    assert refused.status == 403
    assert json.loads(refused.html)["error"]["error"] == "binding_refused"


async def test_cancel_while_the_device_works_leaves_nothing(browser: Visitor, kit: Kit) -> None:
    await log_in(browser, kit)
    path, page = await at_open(browser)
    agent = await kit.agent()
    await agent.claim(code_of(page))
    page = await browser.get(path)
    assert not page.all("a", id="open")
    await browser.submit(page, f"{path}/cancel")
    after = await browser.get(path)
    assert "Cancelled in the portal." in after.text
    assert (await browser.get("/cards")).text.startswith("Cards You have no card yet.")


async def test_options_are_saved_and_count_for_the_next_process(browser: Visitor, kit: Kit) -> None:
    session = await log_in(browser, kit, Role.SELF_SERVICE, Role.ADMINISTRATOR)
    view = await kit.services.options(session, "VirtualSmartCardScriptOptions")
    form = [("csrf", session.csrf_token), ("expected_version", str(view.version))]
    for name, value in view.values.items():
        if value is not False and name != "ProfileName":
            form += [(name, str(item)) for item in (value if isinstance(value, list) else [value])]
    wrong = await browser.post(OPTIONS, [*form, ("ProfileName", "")])
    assert wrong.status == 422
    saved = await browser.post(OPTIONS, [*form, ("ProfileName", "Card of ${name}")])
    assert saved.location == f"{OPTIONS}?saved"
    begun = await browser.submit(await browser.get("/start"), "/processes", name=PROCESS)
    assert "Card of Ada Example" in (await browser.get(begun.location)).text


async def test_from_log_in_to_the_active_card(browser: Visitor, kit: Kit) -> None:
    await log_in(browser, kit)
    path, page = await at_open(browser)
    agent = await kit.agent()
    async with events(browser, path) as stream:
        states = [await anext(stream)]
        assert states[0] == {"state": "waiting"}
        await agent.claim(code_of(page))
        await agent.consent(number=NUMBER)
        async for event in stream:
            if event.get("number_wanted"):
                break
        typed = await browser.submit(await browser.get(path), f"{path}/number", number=f" {NUMBER} ")
        assert typed.location == path
        await agent.complete()
        states = [event async for event in stream]
    assert {"state": "finished"}.items() <= states[-2].items()
    assert states[-1] == {}
    details = await browser.get(path)
    assert agent.card.serial.lstrip("0") in details.text.replace(" ", "")
    finished = await browser.submit(details, f"{path}/next")
    assert finished.location == "/cards"
    cards = await browser.get("/cards")
    assert [item.text for item in cards.all("span", **{"class": "state state-active"})] == ["Active"]
    assert len(cards.all("span", **{"class": "state state-valid"})) == 3


async def test_a_puk_is_on_one_page_and_gone_when_it_is_loaded_again(browser: Visitor, kit: Kit) -> None:
    ada = await kit.person("owner@example.org")
    await kit.set_options(**P256)
    _, agent = await kit.bound_agent(ada)
    await agent.complete()
    (card,) = await kit.services.cards(ada)
    await log_in(browser, kit, Role.OPERATOR, email="olga@example.org")
    page = await browser.get("/start")
    begun = await browser.post(
        "/processes",
        {**page.hidden("/logout"), "name": ShowPuk.name, "kind": "virtual_smart_card", "id": card.id},
    )
    path = begun.location
    form = (await browser.get(path)).hidden(f"{path}/next") | {"Reason": "her badge was seen"}
    shown = await browser.post(f"{path}/next", form)
    assert (shown.status, "48151623" in shown.text) == (200, True)
    assert shown.headers["Cache-Control"] == "no-store"
    again = await browser.post(f"{path}/next", form)
    assert again.location == path
    assert "48151623" not in (await browser.get(path)).text
