"""Log-in and log-out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from portal.addresses import address_of
from portal.errors import LoginRefused
from portal.web.guard import (
    LOGIN_COOKIE,
    SESSION_COOKIE,
    drop_cookie,
    field,
    fresh_token,
    local_path,
    read_form,
    require_session,
    session_of,
    set_cookie,
)
from portal.web.keys import SERVICES
from portal.web.templating import page
from portal.web.troubles import trouble_of
from protocol.errors import InlayError

if TYPE_CHECKING:
    from portal.web.troubles import Trouble

_MOST_PASSWORD: Final = 1024
_MOST_EMAIL: Final = 254
"""RFC 5321, 4.5.3.1.3: a path is 256 octets with its angle brackets."""


async def get_login(request: web.Request) -> web.Response:
    """``GET /login``."""
    back = local_path(request.query.get("next", ""))
    if await session_of(request):
        raise web.HTTPSeeOther(back)
    return _form(request, back=back)


async def post_login(request: web.Request) -> web.Response:
    """``POST /login``: always a new session, whatever cookie came with the request."""
    form = await read_form(request, request.cookies.get(LOGIN_COOKIE, ""))
    email, back = field(form, "email", _MOST_EMAIL), local_path(field(form, "next"))
    password = field(form, "password", _MOST_PASSWORD)
    services = request.app[SERVICES]
    try:
        login = await services.login(email, password, address_of(request))
    except LoginRefused as error:
        return _form(request, back=back, email=email, refused=str(error), status=401)
    except InlayError as error:
        return _form(request, back=back, email=email, trouble=trouble_of(error), status=429)
    if (old := await session_of(request)) is not None:
        await services.logout(old)
    response = web.HTTPSeeOther(back)
    set_cookie(response, SESSION_COOKIE, login.token)
    drop_cookie(response, LOGIN_COOKIE)
    raise response


async def post_logout(request: web.Request) -> web.Response:
    """``POST /logout``."""
    session = await require_session(request)
    await read_form(request, session.csrf_token)
    await request.app[SERVICES].logout(session)
    response = web.HTTPSeeOther("/login")
    drop_cookie(response, SESSION_COOKIE)
    raise response


def _form(
    request: web.Request,
    *,
    back: str,
    email: str = "",
    refused: str = "",
    trouble: Trouble | None = None,
    status: int = 200,
) -> web.Response:
    token = fresh_token()
    response = page(
        request,
        "login.html",
        None,
        status=status,
        login_token=token,
        back=back,
        email=email,
        refused=refused,
        trouble=trouble,
    )
    set_cookie(response, LOGIN_COOKIE, token)
    return response
