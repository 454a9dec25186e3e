"""The administrator's page of a script's options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from portal.errors import FieldErrors, StalePage
from portal.web.guard import field, read_form, require_session
from portal.web.keys import SERVICES
from portal.web.templating import page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portal.model.options import Option
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
        await request.app[SERVICES].save_options(session, script, _whole(version), sent)
    except FieldErrors as error:
        view = await request.app[SERVICES].options(session, script)
        return _show(
            request, session, view, sent=sent, errors=error.errors, expected=_whole(version), status=422
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
    values = {
        option.name: _sent(option, sent) if sent is not None else _shown(view, option)
        for option in view.options
    }
    return page(
        request,
        "options.html",
        session,
        status=status,
        view=view,
        values=values,
        defaults={option.name: _words(option.default) for option in view.options},
        errors=errors or {},
        unknown=[text for name, text in (errors or {}).items() if name not in values],
        expected_version=view.version if expected is None else expected,
        saved=saved,
        stale=stale,
    )


def _shown(view: OptionsView, option: Option) -> list[str]:
    value = view.values[option.name]
    return [str(item) for item in value] if isinstance(value, list) else [_word(value)]


def _sent(option: Option, sent: Mapping[str, Sequence[str]]) -> list[str]:
    values = list(sent.get(option.name, ()))
    return ["true" if values else "false"] if option.kind == "bool" else values


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _whole(text: str) -> int:
    """A version from a form; -1, which no page has, for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
