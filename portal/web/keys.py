"""What handlers find in the application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from portal.services import Services
    from portal.staff.administrator import Administrator
    from portal.staff.batches import Batches
    from portal.staff.operator import Operator
    from portal.web.codes import CodeShelf
    from portal.web.events import Streams
    from portal.web.static_files import StaticFiles
    from portal.web.templating import Templates

ADMINISTRATOR: Final[web.AppKey[Administrator]] = web.AppKey("administrator")
BATCHES: Final[web.AppKey[Batches]] = web.AppKey("batches")
OPERATOR: Final[web.AppKey[Operator]] = web.AppKey("operator")
SERVICES: Final[web.AppKey[Services]] = web.AppKey("services")
TEMPLATES: Final[web.AppKey[Templates]] = web.AppKey("templates")
STATIC: Final[web.AppKey[StaticFiles]] = web.AppKey("static")
CODES: Final[web.AppKey[CodeShelf]] = web.AppKey("codes")
STREAMS: Final[web.AppKey[Streams]] = web.AppKey("streams")
