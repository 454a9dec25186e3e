"""The operator's pages of batches of temporary cards. All work without a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from portal.errors import FieldErrors
from portal.staff.batches import is_piece
from portal.web.guard import field, read_form, require_session
from portal.web.keys import BATCHES
from portal.web.templating import page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portal.views import Session


async def get_batches(request: web.Request) -> web.Response:
    """``GET /operator/batches``: the newest, those that are open first."""
    session = await require_session(request)
    return page(request, "batches.html", session, batches=await request.app[BATCHES].all(session))


async def get_batch(request: web.Request) -> web.Response:
    """``GET /operator/batches/ID``."""
    session = await require_session(request)
    return await _show(request, session, {}, none_left="waiting" in request.query)


async def post_complete(request: web.Request) -> web.Response:
    """``POST /operator/batches/ID/complete``: on with what isn't produced yet, or the end."""
    session = await require_session(request)
    await read_form(request, session.csrf_token)
    batch = request.match_info["id"]
    raise _to(batch, await request.app[BATCHES].complete(session, batch), await _left(request, session))


async def post_repeat(request: web.Request) -> web.Response:
    """``POST /operator/batches/ID/repeat``: the cards that are chosen, once more."""
    session = await require_session(request)
    form = await read_form(request, session.csrf_token)
    batch, piece = request.match_info["id"], is_piece(field(form, "piece", 20))
    try:
        process = await request.app[BATCHES].repeat(session, batch, form.get("card", []), piece)
    except FieldErrors as error:
        return await _show(request, session, error.errors)
    raise _to(batch, process, left=1)


async def post_next(request: web.Request) -> web.Response:
    """``POST /operator/batches/next``: from a card to the next one of the run."""
    session = await require_session(request)
    form = await read_form(request, session.csrf_token)
    batch, process = await request.app[BATCHES].go_on(session, field(form, "process", 64))
    raise _to(batch, process, left=0, by_itself=True)


async def post_close(request: web.Request) -> web.Response:
    """``POST /operator/batches/ID/close``: what isn't produced is given up."""
    session = await require_session(request)
    form = await read_form(request, session.csrf_token)
    batch = request.match_info["id"]
    try:
        await request.app[BATCHES].close(session, batch, field(form, "Reason"))
    except FieldErrors as error:
        return await _show(request, session, error.errors)
    raise web.HTTPSeeOther(f"/operator/batches/{batch}")


async def _left(request: web.Request, session: Session) -> int:
    return (await request.app[BATCHES].one(session, request.match_info["id"])).left


def _to(batch: str, process: str | None, left: int, *, by_itself: bool = False) -> web.HTTPSeeOther:
    """To the next card's process; without one back to the batch, which says so where cards are left.

    Where the page goes on by itself the keyboard is at the beginning of what is new there, not before the navigation.
    """
    part = "#content" if by_itself else ""
    if process is not None:
        return web.HTTPSeeOther(f"/processes/{process}{part}")
    return web.HTTPSeeOther(f"/operator/batches/{batch}{'?waiting' if left else ''}{part}")


async def _show(
    request: web.Request, session: Session, errors: Mapping[str, str], *, none_left: bool = False
) -> web.Response:
    view = await request.app[BATCHES].one(session, request.match_info["id"])
    return page(
        request,
        "batch.html",
        session,
        status=422 if errors else 200,
        view=view,
        errors=errors,
        none_left=none_left and view.left > 0,
    )
