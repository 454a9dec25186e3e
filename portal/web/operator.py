"""The operator's pages: search, its export, and the pages of objects. All work without a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from aiohttp import web

from portal.errors import FieldErrors
from portal.model.objects import ObjectKind
from portal.staff.filters import TEXT
from portal.views import ObjectRef
from portal.web.guard import read_form, require_session
from portal.web.keys import OPERATOR, SERVICES
from portal.web.templating import page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portal.staff.filters import SearchKind
    from portal.staff.views import Results
    from portal.views import Session, Startable

_FIRST_KIND: Final = "virtual_smart_card"
_MOST_CURSOR: Final = 100


async def get_search(request: web.Request) -> web.Response:
    """``GET /operator/search``: the address holds the filter; what is wrong with it is said at its field."""
    session = await require_session(request)
    operator = request.app[OPERATOR]
    kinds = operator.kinds(session)
    kind = request.query.get("kind", _FIRST_KIND if _FIRST_KIND in kinds else next(iter(kinds)))
    try:
        found = await operator.search(
            session, kind, _sent(request), request.query.get("after", "")[:_MOST_CURSOR]
        )
    except FieldErrors as error:
        return _show(request, session, kinds, kinds[kind], errors=error.errors)
    return _show(request, session, kinds, kinds[kind], found=found)


async def post_export(request: web.Request) -> web.StreamResponse:
    """``POST /operator/search.csv``: the same filter, all hits."""
    session = await require_session(request)
    form = await read_form(request, session.csrf_token)
    sent = {name: values[-1] for name, values in form.items()}
    kind = sent.pop("kind", "")
    try:
        lines = await request.app[OPERATOR].export(session, kind, sent)
    except FieldErrors:
        raise web.HTTPBadRequest from None
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/csv; charset=utf-8",
            "Content-Disposition": f'attachment; filename="{kind}.csv"',
        }
    )
    await response.prepare(request)
    async for line in lines:
        await response.write(line.encode())
    await response.write_eof()
    return response


async def get_object(request: web.Request) -> web.Response:
    """``GET /operator/objects/KIND/ID``."""
    session = await require_session(request)
    before = request.query.get("before", "")
    kind, key = request.match_info["kind"], request.match_info["id"]
    view = await request.app[OPERATOR].object(
        session,
        kind,
        key,
        int(before) if before.isascii() and before.isdigit() and len(before) < 16 else 0,
    )
    possible: Sequence[Startable] = ()
    if kind in frozenset(ObjectKind):
        possible = await request.app[SERVICES].possible(session, ObjectRef(kind, key))
    return page(request, "object.html", session, view=view, paged=bool(before), possible=possible)


def _sent(request: web.Request) -> Mapping[str, str]:
    return {name: request.query.getall(name)[-1] for name in request.query}


def _show(
    request: web.Request,
    session: Session,
    kinds: Mapping[str, SearchKind],
    kind: SearchKind,
    *,
    found: Results | None = None,
    errors: Mapping[str, str] | None = None,
) -> web.Response:
    sent = _sent(request)
    text = sent.get(TEXT, "")
    following = ""
    if found is not None and found.after:
        following = "?" + urlencode({**found.filter.query(), "after": found.after})
    return page(
        request,
        "search.html",
        session,
        status=422 if errors else 200,
        kinds=[
            (item.name, item.title, "?" + urlencode({"kind": item.name} | ({TEXT: text} if text else {})))
            for item in kinds.values()
        ],
        kind=kind,
        values={item.name: sent.get(item.name, "")[:400] for item in kind.fields},
        errors=errors or {},
        found=found,
        following=following,
        first="?" + urlencode(found.filter.query()) if found is not None and "after" in sent else "",
    )
