"""Every address below /operator and /admin, taken from the router: a new one is refused to strangers, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.model.states import Role

if TYPE_CHECKING:
    from tests.portal.web.desk import Desk
    from tests.portal.web.visitor import Visitor

_FILL = {"kind": "user", "script": "VirtualSmartCardScriptOptions"}


def routes(desk: Desk) -> list[tuple[str, str]]:
    """Method and address of each, with an object that is there where it needs one."""
    found = []
    for route in desk.client.app.router.routes():
        resource = route.resource
        if resource is None or route.method == "HEAD":
            continue
        path = resource.canonical
        if path.startswith(("/operator", "/admin")):
            found.append((route.method, path.format(**_FILL, id=desk.user_id)))
    return found


async def answer(visitor: Visitor, method: str, path: str, form: dict[str, str]) -> int:
    page = await (visitor.get(path) if method == "GET" else visitor.post(path, form))
    return page.status


async def test_a_self_service_user_gets_none_of_them(desk: Desk) -> None:
    visitor = await desk.person("eve@example.org", Role.SELF_SERVICE)
    token = (await visitor.get("/start")).hidden("/logout") | {"kind": "user"}
    found = routes(desk)
    assert len(found) >= 16
    for method, path in found:
        assert await answer(visitor, method, path, token) == 403, f"{method} {path}"


async def test_an_approver_alone_gets_none_of_them(desk: Desk) -> None:
    visitor = await desk.person("paul@example.org", Role.APPROVER)
    token = (await visitor.get("/start")).hidden("/logout") | {"kind": "user"}
    for method, path in routes(desk):
        assert await answer(visitor, method, path, token) == 403, f"{method} {path}"


async def test_nobody_who_is_not_logged_in_gets_any_of_them(desk: Desk) -> None:
    await desk.person("eve@example.org", Role.SELF_SERVICE)
    for method, path in routes(desk):
        assert await answer(desk.stranger(), method, path, {}) == 303, f"{method} {path}"


async def test_no_post_is_taken_without_this_session_s_token(desk: Desk) -> None:
    visitor = await desk.person("root@example.org", Role.ADMINISTRATOR, Role.OPERATOR)
    other = await desk.person("other@example.org", Role.ADMINISTRATOR, Role.OPERATOR)
    foreign = (await other.get("/start")).hidden("/logout")
    posts = [path for method, path in routes(desk) if method == "POST"]
    assert len(posts) >= 6
    for path in posts:
        for token in ({}, {"csrf": ""}, foreign):
            assert await answer(visitor, "POST", path, token | {"kind": "user"}) == 403, path
