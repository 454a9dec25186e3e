"""Puts the pages into the portal's application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from portal.web import (
    administrator,
    batches,
    cards,
    computer,
    events,
    login,
    mails,
    operator,
    options,
    people,
    processes,
    start,
    static_files,
)
from portal.web.codes import CodeShelf
from portal.web.guard import session_of
from portal.web.headers import add_headers
from portal.web.keys import ADMINISTRATOR, BATCHES, CODES, OPERATOR, SERVICES, STATIC, STREAMS, TEMPLATES
from portal.web.templating import Templates
from portal.web.troubles import troubles

if TYPE_CHECKING:
    from portal.services import Services
    from portal.staff.administrator import Administrator
    from portal.staff.batches import Batches
    from portal.staff.operator import Operator


def setup(app: web.Application, services: Services) -> None:
    """Add all pages, static files, headers and error pages.

    Args:
        app: the application; serves TLS itself or stands behind a proxy that does.
        services: the portal.
    """
    app[SERVICES] = services
    app[TEMPLATES] = Templates()
    app[STATIC] = static_files.StaticFiles()
    app[CODES] = CodeShelf(services)
    app[STREAMS] = events.Streams()
    app.middlewares.append(troubles)
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(app[STREAMS].close)
    app.add_routes(
        [
            web.get("/", get_root),
            web.get("/login", login.get_login),
            web.post("/login", login.post_login),
            web.post("/logout", login.post_logout),
            web.get("/start", start.get_start),
            web.get("/help", start.get_help),
            web.get("/cards", cards.get_cards),
            web.get("/computer", computer.get_computer),
            web.post("/ticket", computer.post_ticket),
            web.post("/processes", processes.post_start),
            web.get("/processes/{id}", processes.get_process),
            web.post("/processes/{id}/next", processes.post_next),
            web.get("/processes/{id}/cancel", processes.get_cancel),
            web.post("/processes/{id}/cancel", processes.post_cancel),
            web.post("/processes/{id}/letters/{kind:pin|puk}", processes.post_letter),
            web.get("/processes/{id}/letters", events.get_letters),
            web.post("/processes/{id}/code", processes.post_code),
            web.post("/processes/{id}/number", processes.post_number),
            web.post("/processes/{id}/completion", processes.post_completion),
            web.get("/processes/{id}/events", events.get_events),
            web.get("/admin/options/{script}", options.get_options),
            web.post("/admin/options/{script}", options.post_options),
            web.get("/static/{version}/{name:.+}", static_files.get_static),
        ]
    )


def setup_staff(
    app: web.Application, for_operators: Operator, for_administrators: Administrator, of_batches: Batches
) -> None:
    """Add the pages of operators and administrators, after ``setup``.

    Args:
        app: the application.
        for_operators: what the operator's pages ask.
        for_administrators: what the administrator's pages ask.
        of_batches: what the pages of batches ask.
    """
    app[OPERATOR] = for_operators
    app[ADMINISTRATOR] = for_administrators
    app[BATCHES] = of_batches
    app.add_routes(
        [
            web.get("/operator/search", operator.get_search),
            web.post("/operator/search.csv", operator.post_export),
            web.get("/operator/objects/{kind}/{id}", operator.get_object),
            web.get("/operator/batches", batches.get_batches),
            web.post("/operator/batches/next", batches.post_next),
            web.get("/operator/batches/{id}", batches.get_batch),
            web.post("/operator/batches/{id}/complete", batches.post_complete),
            web.post("/operator/batches/{id}/repeat", batches.post_repeat),
            web.post("/operator/batches/{id}/close", batches.post_close),
            web.get("/admin", administrator.get_home),
            web.get("/admin/options/{script}/history", administrator.get_option_history),
            web.get("/admin/graphs", administrator.get_graphs),
            web.get("/admin/queue", administrator.get_queue),
            web.post("/admin/queue/retry", administrator.post_retry),
            web.get("/admin/mails", mails.get_mails),
            web.post("/admin/mails/{id}/retry", mails.post_retry),
            web.post("/admin/mails/{id}/give-up", mails.post_give_up),
            web.get("/admin/audit", administrator.get_audit),
            web.post("/admin/audit/verify", administrator.post_verify),
            web.get("/admin/users/new", people.get_new),
            web.post("/admin/users/new", people.post_new),
            web.get("/admin/users/{id}", people.get_person),
            web.post("/admin/users/{id}", people.post_person),
        ]
    )


async def get_root(request: web.Request) -> web.Response:
    """``GET /``: to the start page, or to the log-in."""
    raise web.HTTPSeeOther("/start" if await session_of(request) else "/login")
