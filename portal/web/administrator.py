"""The administrator's pages, but for options and accounts: overview, history of options, graphs, queue, audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from aiohttp import web

from portal.errors import FieldErrors
from portal.model import diagrams
from portal.staff import audit_search
from portal.web.form_fields import words
from portal.web.guard import read_form, require_session
from portal.web.keys import ADMINISTRATOR
from portal.web.templating import markup, page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portal.staff.views import AuditPage, Verdict
    from portal.views import Session

_MOST_CURSOR: Final = 64


async def get_home(request: web.Request) -> web.Response:
    """``GET /admin``."""
    session = await require_session(request)
    desk = request.app[ADMINISTRATOR]
    scripts = await desk.scripts(session)
    queue = await desk.queue(session)
    mails = await desk.mails(session)
    return page(request, "admin.html", session, scripts=scripts, summary=queue.summary, mails=mails)


async def get_option_history(request: web.Request) -> web.Response:
    """``GET /admin/options/SCRIPT/history``."""
    session = await require_session(request)
    view = await request.app[ADMINISTRATOR].option_history(session, request.match_info["script"])
    return page(request, "option_history.html", session, view=view, words=words)


async def get_graphs(request: web.Request) -> web.Response:
    """``GET /admin/graphs``: drawn from the tables that the portal runs with."""
    session = await require_session(request)
    graphs = await request.app[ADMINISTRATOR].graphs(session)
    drawn = [(item, markup(diagrams.svg(item.graph, title=item.title))) for item in graphs]
    return page(request, "graphs.html", session, graphs=drawn)


async def get_queue(request: web.Request) -> web.Response:
    """``GET /admin/queue``: what waits for the CA."""
    session = await require_session(request)
    after = request.query.get("after", "")[:_MOST_CURSOR]
    view = await request.app[ADMINISTRATOR].queue(session, after)
    asked = request.query.get("asked", "")
    said = f"The CA is asked again now for {asked}." if asked.isascii() and asked.isdigit() else ""
    return page(request, "queue.html", session, view=view, paged=bool(after), said=said)


async def post_retry(request: web.Request) -> web.Response:
    """``POST /admin/queue/retry``."""
    session = await require_session(request)
    await read_form(request, session.csrf_token)
    count = await request.app[ADMINISTRATOR].retry(session)
    raise web.HTTPSeeOther(f"/admin/queue?asked={min(count, 10**9)}")


async def get_audit(request: web.Request) -> web.Response:
    """``GET /admin/audit``: the address holds the filter."""
    session = await require_session(request)
    sent = {name: request.query.getall(name)[-1] for name in request.query}
    return await _audit(request, session, sent)


async def post_verify(request: web.Request) -> web.Response:
    """``POST /admin/audit/verify``: the newest rows, and above them what the check found."""
    session = await require_session(request)
    await read_form(request, session.csrf_token)
    verdict = await request.app[ADMINISTRATOR].verify(session)
    return await _audit(request, session, {}, verdict)


async def _audit(
    request: web.Request, session: Session, sent: Mapping[str, str], verdict: Verdict | None = None
) -> web.Response:
    before = sent.get("before", "")
    number = int(before) if before.isascii() and before.isdigit() and len(before) < 16 else 0
    found: AuditPage | None = None
    errors: Mapping[str, str] = {}
    try:
        found = await request.app[ADMINISTRATOR].audit(session, sent, number)
    except FieldErrors as error:
        errors = error.errors
    query = dict(found.filter.values) if found is not None else {}
    return page(
        request,
        "audit.html",
        session,
        status=422 if errors else 200,
        kind=audit_search.KIND,
        values={item.name: sent.get(item.name, "")[:400] for item in audit_search.KIND.fields},
        errors=errors,
        found=found,
        verdict=verdict,
        first="/admin/audit?" + urlencode(query) if number else "",
        following="?" + urlencode({**query, "before": found.before})
        if found is not None and found.before
        else "",
    )
