"""Who asks, and did this portal's own page ask: session cookie, origin and CSRF token."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from aiohttp import web

from portal.web.keys import SERVICES

if TYPE_CHECKING:
    from portal.views import Session

SESSION_COOKIE: Final = "__Host-inlay-session"
LOGIN_COOKIE: Final = "__Host-inlay-login"
"""Ties the log-in form to the browser that loaded it, before there is a session."""
CSRF_FIELD: Final = "csrf"
MAX_FORM_BYTES: Final = 64 * 1024
FORM_SECONDS: Final = 30.0
"""How long a form may be under way: nobody keeps a connection busy by sending half of one."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{20,128}\Z")
_LOCAL_PATH: Final = re.compile(r"/(?!/)[A-Za-z0-9/_-]{0,200}\Z")


class ForeignRequest(Exception):
    """A request that changes something and wasn't sent by a page of this portal, or by one too old."""


class LoginNeeded(Exception):
    """There is no session.

    Attributes:
        location: the log-in page, which leads back for a page that was asked for.
    """

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


async def session_of(request: web.Request) -> Session | None:
    """The session of a request, or None."""
    token = request.cookies.get(SESSION_COOKIE, "")
    return await request.app[SERVICES].session(token) if _TOKEN.match(token) else None


async def require_session(request: web.Request) -> Session:
    """The session of a request.

    Raises:
        LoginNeeded: there is none.
    """
    session = await session_of(request)
    if session is None:
        back = f"?next={quote(request.path, safe='/')}" if request.method == "GET" else ""
        raise LoginNeeded("/login" + back)
    return session


def local_path(text: str) -> str:
    """A path of this portal to go to after the log-in; the start page for anything else."""
    return text if _LOCAL_PATH.match(text) else "/start"


async def read_form(request: web.Request, csrf_token: str) -> dict[str, list[str]]:
    """Read a form that was sent by a page of this portal.

    Args:
        request: the request; its body is at most ``MAX_FORM_BYTES``.
        csrf_token: what the form must carry.

    Returns:
        Field to its values, without the token.

    Raises:
        ForeignRequest: another origin, none, another token, or something other than a form.
        web.HTTPRequestEntityTooLarge: it is too long.
        web.HTTPRequestTimeout: it doesn't come.
    """
    check_origin(request)
    charset = (request.charset or "utf-8").lower()
    if request.content_type != "application/x-www-form-urlencoded" or charset != "utf-8":
        raise ForeignRequest
    length = request.content_length
    if length is None or length > MAX_FORM_BYTES:
        raise web.HTTPRequestEntityTooLarge(max_size=MAX_FORM_BYTES, actual_size=length or 0)
    try:
        async with asyncio.timeout(FORM_SECONDS):
            sent = await request.post()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except UnicodeDecodeError:
        raise ForeignRequest from None
    values = {name: [item for item in sent.getall(name) if isinstance(item, str)] for name in sent}
    token = (values.pop(CSRF_FIELD, None) or [""])[0]
    if not csrf_token or not hmac.compare_digest(token.encode(), csrf_token.encode()):
        raise ForeignRequest
    return values


def check_origin(request: web.Request) -> None:
    """Check that a page of this portal sent the request.

    Raises:
        ForeignRequest: it names another origin, or none: every browser names one with a POST.
    """
    origins = request.headers.getall("Origin", [])
    if origins != [request.app[SERVICES].info.origin]:
        raise ForeignRequest


def field(form: dict[str, list[str]], name: str, limit: int = 400) -> str:
    """A form's single value; empty when it is missing, cut when it is longer than anything that fits."""
    return (form.get(name) or [""])[-1][:limit]


def set_cookie(response: web.StreamResponse, name: str, value: str) -> None:
    """Set a cookie for this host alone, over TLS alone, out of scripts' reach."""
    response.set_cookie(name, value, path="/", secure=True, httponly=True, samesite="Lax")


def drop_cookie(response: web.StreamResponse, name: str) -> None:
    """Remove a cookie; a ``__Host-`` cookie is removed only with the attributes it was set with."""
    response.del_cookie(name, path="/", secure=True, httponly=True, samesite="Lax")


def fresh_token() -> str:
    """256 random bits, base64url."""
    return secrets.token_urlsafe(32)
