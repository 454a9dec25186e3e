"""Who may change something: session, origin and CSRF token; and the headers of every answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from portal.model.states import UserState
from portal.web.guard import local_path
from portal.web.headers import CONTENT_SECURITY_POLICY
from protocol.loopback_ports import PORTS
from tests.portal.web.fake_services import GET_CARD, PASSWORD

if TYPE_CHECKING:
    from tests.portal.web.fake_services import FakeServices
    from tests.portal.web.visitor import Visitor

POSTS = {
    "/processes": {"name": GET_CARD},
    "/processes/process-1/next": {"expected_version": "1"},
    "/processes/process-1/cancel": {},
    "/processes/process-1/code": {},
    "/processes/process-1/number": {"number": "042"},
    "/processes/process-1/completion": {"completion": "n" * 43},
    "/admin/options/VirtualSmartCardScriptOptions": {"expected_version": "0"},
    "/ticket": {},
    "/logout": {},
}
PAGES = (
    "/start",
    "/cards",
    "/computer",
    "/processes/process-1",
    "/admin/options/VirtualSmartCardScriptOptions",
)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("token", "origin"),
    [
        (None, ""),
        ("", ""),
        ("x" * 43, ""),
        ("ü" * 43, ""),
        ("c" * 43, None),
        ("c" * 43, "null"),
        ("c" * 43, "https://elsewhere.test"),
        ("c" * 43, "https://portal.test"),
        ("c" * 43, "https://portal.test:8443.elsewhere.test"),
        ("c" * 43, "http://portal.test:8443"),
    ],
)
async def test_a_form_of_another_site_or_token_changes_nothing(
    person: Visitor, services: FakeServices, path: str, token: str | None, origin: str | None
) -> None:
    before = services.at("information")
    form = POSTS[path] | ({} if token is None else {"csrf": token})
    page = await person.post(path, form, origin)
    assert page.status == 403
    assert "This was not done." in page.text
    assert (services.process_view, services.done, services.codes) == (before, [], 0)
    assert len(services.sessions) == 1


@pytest.mark.parametrize("path", POSTS)
async def test_without_a_session_nothing_is_done(visitor: Visitor, services: FakeServices, path: str) -> None:
    services.at("information")
    page = await visitor.post(path, POSTS[path] | {"csrf": "c" * 43})
    assert (page.status, page.location) == (303, "/login")
    assert services.done == []


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_asked_for_without_a_session_comes_after_the_log_in(visitor: Visitor, path: str) -> None:
    page = await visitor.get(path)
    assert (page.status, page.location) == (303, f"/login?next={path}")
    refused = await visitor.get(path, Accept="application/json")
    assert refused.status == 401


@pytest.mark.parametrize(
    "text",
    [
        "",
        "//elsewhere.test",
        "https://elsewhere.test",
        "/\\elsewhere.test",
        "/start?x=1",
        "/start\n",
        "javascript:x",
        "/" + "a" * 300,
    ],
)
def test_after_the_log_in_only_paths_of_this_portal(text: str) -> None:
    assert local_path(text) == "/start"
    assert local_path("/processes/ab-1") == "/processes/ab-1"


async def test_another_kind_of_body_is_refused(person: Visitor, services: FakeServices) -> None:
    services.at("information")
    headers = {
        "Origin": services.info.origin,
        "Cookie": f"__Host-inlay-session={next(iter(services.sessions))}",
    }
    body = b"csrf=" + b"c" * 43
    for kind in (
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded; charset=utf-16",
    ):
        answer = await person.client.post(
            "/processes", data=body, headers=headers | {"Content-Type": kind}, allow_redirects=False
        )
        assert answer.status == 403
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    by_script = {"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
    answer = await person.client.post(
        "/processes/process-1/code", data=body, headers=headers | by_script, allow_redirects=False
    )
    assert answer.status == 409  # taken, and refused for the step
    answer = await person.client.post("/processes", data=b"csrf=%ff", headers=headers | form)
    assert answer.status == 403
    answer = await person.client.post("/processes", data=b"a=" + b"b" * 70_000, headers=headers | form)
    assert answer.status == 413


async def test_a_cookie_that_is_no_token_is_no_session(visitor: Visitor) -> None:
    for value in ("", "short", "a b" * 10, "x" * 200):
        visitor.cookies["__Host-inlay-session"] = value
        assert (await visitor.get("/start")).status == 303


async def test_wrong_password_is_said_without_saying_which(visitor: Visitor, services: FakeServices) -> None:
    form = (await visitor.get("/login")).hidden("/login")
    page = await visitor.post("/login", form | {"email": services.user.email, "password": "wrong"})
    assert page.status == 401
    assert "The e-mail address or the password is wrong." in page.text
    assert page.one("input", id="password").attributes.get("value") is None
    assert "wrong" not in page.one("input", id="email").attributes["value"]
    assert services.sessions == {}


async def test_log_in_limit_is_said(visitor: Visitor) -> None:
    form = (await visitor.get("/login")).hidden("/login")
    page = await visitor.post("/login", form | {"email": "limited@portal.test", "password": "x"})
    assert page.status == 429
    assert "Wait a minute" in page.text


async def test_log_in_form_of_another_browser_is_refused(visitor: Visitor, services: FakeServices) -> None:
    form = (await visitor.get("/login")).hidden("/login")
    visitor.cookies.clear()
    page = await visitor.post("/login", form | {"email": services.user.email, "password": PASSWORD})
    assert page.status == 403
    assert services.sessions == {}


async def test_log_in_makes_a_new_session_and_ends_the_one_before(
    visitor: Visitor, services: FakeServices
) -> None:
    planted = services.open_session()
    form = (await visitor.get("/login")).hidden("/login")
    visitor.cookies["__Host-inlay-session"] = planted
    page = await visitor.post("/login", form | {"email": services.user.email, "password": PASSWORD})
    assert page.location == "/start"
    assert planted not in services.sessions
    assert visitor.cookies["__Host-inlay-session"] in services.sessions


async def test_cookies_are_for_this_host_over_tls_and_out_of_scripts_reach(
    visitor: Visitor, services: FakeServices
) -> None:
    form = await visitor.get("/login")
    logged_in = await visitor.submit(form, "/login", email=services.user.email, password=PASSWORD)
    for line in form.set_cookies + logged_in.set_cookies:
        name, *attributes = line.split("; ")
        assert name.startswith("__Host-")
        assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
        assert not any(item.startswith("Domain") for item in attributes)


async def test_log_out_ends_the_session(person: Visitor, services: FakeServices) -> None:
    page = await person.submit(await person.get("/start"), "/logout")
    assert page.location == "/login"
    assert services.sessions == {}
    assert (await person.get("/start")).status == 303


@pytest.mark.parametrize("path", [*PAGES, "/login", "/help", "/nowhere", "/processes/process-1/events"])
async def test_every_answer_carries_the_headers(person: Visitor, services: FakeServices, path: str) -> None:
    services.at("open")
    services.event_queue.put_nowait(None)
    page = await person.get(path)
    assert page.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert page.headers["Strict-Transport-Security"].startswith("max-age=")
    assert page.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in page.headers


def test_content_security_policy_allows_nothing_unsafe_and_the_agents_ports_alone() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "*" not in CONTENT_SECURITY_POLICY
    directives = dict(item.split(" ", 1) for item in CONTENT_SECURITY_POLICY.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["frame-ancestors"] == directives["base-uri"] == "'none'"
    assert directives["connect-src"].split() == ["'self'", *(f"ws://127.0.0.1:{port}" for port in PORTS)]


async def test_static_files_are_served_by_version_and_by_name_alone(visitor: Visitor) -> None:
    page = await visitor.get("/login")
    style = page.one("link", rel="stylesheet").attributes["href"]
    prefix = style.rsplit("/", 1)[0]
    assert (await visitor.get(style)).headers["Cache-Control"].endswith("immutable")
    script = await visitor.get(f"{prefix}/inlay/inlay.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    for wrong in (
        f"{prefix}/../site.py",
        f"{prefix}/%2e%2e/site.py",
        f"{prefix}/inlay/inlay.d.ts",
        "/static/0000000000000000/style.css",
    ):
        assert (await visitor.get(wrong)).status == 404


async def test_a_user_who_is_not_active_is_not_offered_and_refused_by_hand(
    person: Visitor, services: FakeServices
) -> None:
    services.user = replace(services.user, state=UserState.LOCKED)
    start = await person.get("/start")
    assert "Your account is locked; it must be active." in start.text
    assert not [form for form in start.all("form") if form.attributes["action"] == "/processes"]
    page = await person.post("/processes", {"csrf": "c" * 43, "name": GET_CARD})
    assert page.status == 403
    assert "it must be active" in page.text
    assert services.done == []
