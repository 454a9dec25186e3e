"""Templates: HTML with everything escaped, and the few words and numbers that pages share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2
from aiohttp import web
from markupsafe import Markup

from portal.staff.objects import TITLES
from portal.staff.times import day, moment
from portal.web.guard import CSRF_FIELD
from portal.web.keys import SERVICES, STATIC, TEMPLATES

if TYPE_CHECKING:
    from portal.views import Session

_FOLDER: Final = Path(__file__).resolve().parent / "templates"


class Templates:
    """Compiled templates. An undefined name is an error, not an empty text."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(date=day, moment=moment, when=_when, grouped=grouped)
        self._environment.globals.update(linked_kinds=frozenset(TITLES))

    def render(self, name: str, **context: Any) -> str:
        """Fill a template in."""
        return self._environment.get_template(name).render(context)


def markup(text: str) -> Markup:
    """A drawing of the portal's own, put into a page as it is; never anything that a person wrote."""
    return Markup(text)  # noqa: S704  # made by portal.model.diagrams, which escapes what stands in it


def page(
    request: web.Request, template: str, session: Session | None, *, status: int = 200, **context: Any
) -> web.Response:
    """Answer with a page."""
    text = request.app[TEMPLATES].render(
        template,
        info=request.app[SERVICES].info,
        static=request.app[STATIC].prefix,
        session=session,
        csrf_field=CSRF_FIELD,
        csrf_token=session.csrf_token if session else "",
        path=request.path,
        **context,
    )
    return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)


def grouped(text: str, size: int = 4) -> str:
    """A long number or fingerprint in groups, for people to compare."""
    return " ".join(text[start : start + size] for start in range(0, len(text), size))


def _when(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
