"""The administrator's page of a script's options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from portal.errors import FieldErrors, StalePage
from portal.web.form_fields import form_context, whole, words
from portal.web.guard import field, read_form, require_session
from portal.web.keys import SERVICES
from portal.web.templating import page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portal.views import OptionsView, Session

_OWN_FIELDS: Final = frozenset({"expected_version"})


async def get_options(request: web.Request) -> web.Response:
    """``GET /admin/options/SCRIPT``."""
    session = await require_session(request)
    view = await request.app[SERVICES].options(session, request.match_info["script"])
    return _show(request, session, view, saved="saved" in request.query, stale="stale" in request.query)


async def post_options(request: web.Request) -> web.Response:
    """``POST /admin/options/SCRIPT``: all or nothing; what is wrong is said at its field."""
    session = await require_session(request)
    form = await read_form(request, session.csrf_token)
    script = request.match_info["script"]
    version = field(form, "expected_version")
    sent = {name: values for name, values in form.items() if name not in _OWN_FIELDS}
    try:
        await request.app[SERVICES].save_options(session, script, whole(version), sent)
    except FieldErrors as error:
        view = await request.app[SERVICES].options(session, script)
        return _show(
            request, session, view, sent=sent, errors=error.errors, expected=whole(version), status=422
        )
    except StalePage:
        raise web.HTTPSeeOther(f"{request.path}?stale") from None
    raise web.HTTPSeeOther(f"{request.path}?saved")


def _show(
    request: web.Request,
    session: Session,
    view: OptionsView,
    *,
    sent: Mapping[str, Sequence[str]] | None = None,
    errors: Mapping[str, str] | None = None,
    expected: int | None = None,
    saved: bool = False,
    stale: bool = False,
    status: int = 200,
) -> web.Response:
    return page(
        request,
        "options.html",
        session,
        status=status,
        view=view,
        form=form_context(view.options, view.values, sent, errors),
        defaults={option.name: words(option.default, option.captions) for option in view.options},
        expected_version=view.version if expected is None else expected,
        saved=saved,
        stale=stale,
    )
