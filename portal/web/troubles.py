"""What the portal refuses, as a page or JSON: what happened, why, and what to do next; one table of statuses."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from portal.errors import (
    Forbidden,
    NotFound,
    PortalError,
    SecondPerson,
    StalePage,
    SwitchedOff,
    WrongState,
)
from portal.web.guard import ForeignRequest, LoginNeeded, session_of
from portal.web.templating import page
from protocol.errors import InlayError
from protocol.traces import describe

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from portal.views import Session

_LOG: Final = logging.getLogger(__name__)
_CHANNEL_PATHS: Final = ("/inlay/", "/.well-known/")
_STEP: Final = re.compile(r"(/processes/[0-9A-Za-z_-]{1,64})/")
_STATUS: Final = {"rate_limited": 429, "user_not_active": 403, "binding_refused": 403, "number_wrong": 409}


@dataclass(frozen=True, slots=True)
class Trouble:
    """A refusal for a person.

    Attributes:
        code: what a script tells it by.
        status: of HTTP.
    """

    code: str
    status: int
    happened: str
    why: str
    next_step: str


_NOT_FOUND: Final = Trouble(
    "not_found",
    404,
    "There is no such page.",
    "It was never there, it has ended, or it belongs to somebody else.",
    "Go to the start page.",
)
_FOREIGN: Final = Trouble(
    "foreign_request",
    403,
    "This was not done.",
    "The request did not come from a page of this portal that is still valid: it was sent by another site, or the "
    "page was loaded before you logged in.",
    "Go back, reload the page, and try again.",
)
_INTERNAL: Final = Trouble(
    "internal",
    500,
    "Something went wrong in the portal.",
    "This is a fault of the portal, not yours. It was written to its log.",
    "Try again in a moment. If it comes back, tell your support when it happened.",
)


def trouble_of(error: Exception) -> Trouble:
    """The refusal for an error; anything unknown is a fault of the portal, and its text stays here."""
    match error:
        case InlayError():
            status = _STATUS.get(error.code, 409)
            return Trouble(error.code, status, error.happened, error.why, error.next_step)
        case NotFound():
            return _NOT_FOUND
        case ForeignRequest():
            return _FOREIGN
        case Forbidden():
            why = f"It needs the role {error.role}, which you don't have."
            return Trouble("forbidden", 403, "This is not open to you.", why, "Ask your support.")
        case SecondPerson():
            return Trouble(
                "second_person", 403, "This was not done.", str(error), "Ask somebody else with that role."
            )
        case SwitchedOff():
            return Trouble("switched_off", 403, "This can't be done here.", str(error), "Ask your support.")
        case WrongState():
            return Trouble("wrong_state", 409, "This can't be done now.", str(error), "Go on from the page.")
        case StalePage():
            return Trouble("stale_page", 409, "This page was out of date.", str(error), "Reload the page.")
        case web.HTTPException() if error.status < 500:
            return _http_trouble(error)
        case _:
            return _INTERNAL


def _http_trouble(error: web.HTTPException) -> Trouble:
    if error.status == 404:
        return _NOT_FOUND
    why = {
        405: "This address does not take such a request.",
        408: "Its form was not sent to its end in time.",
        413: "It is larger than any form of this portal.",
    }.get(error.status, "The request is not one that a browser makes here.")
    return Trouble("bad_request", error.status, "This was not done.", why, "Go to the start page.")


def wants_json(request: web.Request) -> bool:
    """Tell whether a script asks."""
    return request.headers.get("Accept", "").startswith("application/json")


@web.middleware
async def troubles(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every refusal into a page or JSON; nothing else of an exception gets out."""
    if request.path.startswith(_CHANNEL_PATHS):
        return await handler(request)
    try:
        return await handler(request)
    except LoginNeeded as error:
        return _to_login(request, error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return await _answer(request, trouble_of(error))
    except (InlayError, PortalError, ForeignRequest) as error:
        return await _answer(request, trouble_of(error))
    except Exception as cause:
        # %r: a path may hold a line's end; the query, which may hold anything, isn't logged
        _LOG.error("%s %r: %s", request.method, request.path[:200], describe(cause))  # without its text
        return await _answer(request, _INTERNAL)


def _to_login(request: web.Request, error: LoginNeeded) -> web.Response:
    if wants_json(request) or "text/event-stream" in request.headers.get("Accept", ""):
        return json_trouble(
            Trouble("login_needed", 401, "You are logged out.", "Your session has ended.", "Log in again.")
        )
    raise web.HTTPSeeOther(error.location)


async def _answer(request: web.Request, trouble: Trouble) -> web.Response:
    if wants_json(request):
        return json_trouble(trouble)
    return page(
        request,
        "trouble.html",
        await _session_or_none(request),
        status=trouble.status,
        trouble=trouble,
        process=_process_behind(request, trouble),
    )


def _process_behind(request: web.Request, trouble: Trouble) -> str | None:
    """The address of the process whose step was refused: it waits there, and is reached from no other page."""
    found = _STEP.match(request.path)
    return found[1] if found and trouble.status != 404 else None


async def _session_or_none(request: web.Request) -> Session | None:
    """For the page's head only: an error page is shown even when sessions can't be read."""
    try:
        return await session_of(request)
    except Exception as cause:
        _LOG.error("session for an error page: %s", describe(cause))  # without its text
        return None


def json_trouble(trouble: Trouble) -> web.Response:
    """A refusal for a script."""
    return web.json_response(
        {
            "error": {
                "error": trouble.code,
                "happened": trouble.happened,
                "why": trouble.why,
                "next_step": trouble.next_step,
            }
        },
        status=trouble.status,
    )
