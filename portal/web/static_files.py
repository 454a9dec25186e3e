"""Style sheet and scripts, read once at start and served under a path that names their content.

A new version has a new path, so that browsers may keep files for good and never mix two versions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from aiohttp import web

import protocol
from portal.web.keys import STATIC

_OWN: Final = Path(__file__).resolve().parent / "static"
_CLIENT: Final = Path(protocol.__file__).resolve().parent / "js"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticFiles:
    """All static files by name; those of the page's client are below ``inlay/``.

    Attributes:
        prefix: path that they are served under.
    """

    def __init__(self) -> None:
        self._files = {
            path.name: path.read_bytes() for path in sorted(_OWN.iterdir()) if path.suffix in _TYPES
        }
        for path in sorted(_CLIENT.glob("*.js")):
            self._files[f"inlay/{path.name}"] = path.read_bytes()
        digest = hashlib.sha256()
        for name, data in sorted(self._files.items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
        self._version = digest.hexdigest()[:16]
        self.prefix = f"/static/{self._version}"

    def answer(self, version: str, name: str) -> web.Response:
        """The answer to a request.

        Raises:
            web.HTTPNotFound: no such file, or another version of it.
        """
        data = self._files.get(name)
        if data is None or version != self._version:
            raise web.HTTPNotFound
        return web.Response(
            body=data,
            content_type=_TYPES[Path(name).suffix],
            charset="utf-8",
            headers={"Cache-Control": "public, max-age=31536000, immutable"},
        )


async def get_static(request: web.Request) -> web.Response:
    """``GET /static/VERSION/NAME``."""
    return request.app[STATIC].answer(request.match_info["version"], request.match_info["name"])
