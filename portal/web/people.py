"""The administrator's pages of accounts: a new one, and roles and state of one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from portal.errors import FieldErrors, StalePage
from portal.staff import people
from portal.web.form_fields import form_context
from portal.web.guard import field, read_form, require_session
from portal.web.keys import ADMINISTRATOR
from portal.web.templating import page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portal.model.options import OptionValue
    from portal.views import Session

_MOST_PASSWORD: Final = 1024
_MOST_MARK: Final = 200


async def get_new(request: web.Request) -> web.Response:
    """``GET /admin/users/new``."""
    session = await require_session(request)
    await request.app[ADMINISTRATOR].scripts(session)
    return _new(request, session)


async def post_new(request: web.Request) -> web.Response:
    """``POST /admin/users/new``: all or nothing; the password isn't shown again."""
    session = await require_session(request)
    form = await read_form(request, session.csrf_token)
    password = field(form, "password", _MOST_PASSWORD + 1)
    try:
        user = await request.app[ADMINISTRATOR].add_person(session, form, password)
    except FieldErrors as error:
        return _new(request, session, form, error.errors)
    raise web.HTTPSeeOther(f"/admin/users/{user.id}?added")


async def get_person(request: web.Request) -> web.Response:
    """``GET /admin/users/ID``."""
    session = await require_session(request)
    return await _person(request, session)


async def post_person(request: web.Request) -> web.Response:
    """``POST /admin/users/ID``: of two who change an account at once, the second one is told."""
    session = await require_session(request)
    form = await read_form(request, session.csrf_token)
    shown = field(form, "shown", _MOST_MARK)
    sent = {name: values for name, values in form.items() if name != "shown"}
    try:
        await request.app[ADMINISTRATOR].change_person(session, request.match_info["id"], sent, shown)
    except FieldErrors as error:
        return await _person(request, session, sent, error.errors, shown)
    except StalePage:
        raise web.HTTPSeeOther(f"{request.path}?stale") from None
    raise web.HTTPSeeOther(f"{request.path}?saved")


def _new(
    request: web.Request,
    session: Session,
    sent: Mapping[str, Sequence[str]] | None = None,
    errors: Mapping[str, str] | None = None,
) -> web.Response:
    form = form_context(people.NEW.options, people.NEW.defaults(), sent, errors)
    return page(request, "person_new.html", session, status=422 if errors else 200, form=form)


async def _person(
    request: web.Request,
    session: Session,
    sent: Mapping[str, Sequence[str]] | None = None,
    errors: Mapping[str, str] | None = None,
    shown: str | None = None,
) -> web.Response:
    user, mark = await request.app[ADMINISTRATOR].person(session, request.match_info["id"])
    stored: dict[str, OptionValue] = {
        "roles": sorted(role.value for role in user.roles),
        "state": user.state.value,
        "reason": "",
    }
    return page(
        request,
        "person.html",
        session,
        status=422 if errors else 200,
        user=user,
        form=form_context(people.CHANGE.options, stored, sent, errors),
        shown=mark if shown is None else shown,
        notices=[name for name in ("added", "saved", "stale") if name in request.query],
    )
