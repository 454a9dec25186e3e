"""Pictures of the portal's pages: ``python -m tests.support.page_screenshots docs/images``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from portal.model.states import Role, UserState
from portal.views import LetterView
from portal.web import setup
from protocol.messages import PageError, PageEvent, Step
from tests.portal.web.fake_services import FakeServices, card
from tests.support import isolation
from tests.support.browser import Policies, Portal, chromium
from tests.support.certificates import ThrowAwayCA
from tests.support.display import VirtualDisplay

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.async_api import Page

PROCESS = "/processes/process-1"
WIDE, NARROW = 1280, 360
_ERROR = PageError(
    "user_cancelled",
    "You cancelled.",
    "The window was closed or Cancel was chosen.",
    "Start again whenever you like, where you started before. Nothing was left behind.",
)
_NUMBER = PageEvent(state="running", step=Step.BINDING, number_wanted=True, tries_left=3)

_LETTERS = (LetterView("pin", "PIN letter", 1, 2), LetterView("puk", "PUK letter", 0, 3))


def _inactive(services: FakeServices) -> None:
    services.user = replace(services.user, state=UserState.INACTIVE)
    services.card_views = []


# name: path, and what is set up before
SCENES: dict[str, tuple[str, Callable[[FakeServices], object]]] = {
    "login": ("/login", lambda services: services.sessions.clear()),
    "start": ("/start", lambda services: None),
    "start-inactive": ("/start", _inactive),
    "information": (PROCESS, lambda services: services.at("information")),
    "open": (PROCESS, lambda services: services.at("open", order=PageEvent(state="waiting"))),
    "number": (PROCESS, lambda services: services.at("open", order=_NUMBER)),
    "details": (PROCESS, lambda services: services.at("details", card=card())),
    "letters": (PROCESS, lambda services: services.at("details", letters=_LETTERS)),
    "cancelled": (
        PROCESS,
        lambda services: services.at("open", state="cancelled", can_cancel=False, error=_ERROR),
    ),
    "cards": ("/cards", lambda services: None),
    "options": ("/admin/options/VirtualSmartCardScriptOptions", lambda services: None),
    "help": ("/help", lambda services: None),
    "trouble": ("/nowhere", lambda services: None),
}
_KINDS = ((WIDE, "light"), (NARROW, "dark"))
_ALL_KINDS = ((WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark"))
_IN_ALL_KINDS = frozenset({"open", "cards", "letters"})


async def shoot(folder: Path, work: Path, display: VirtualDisplay) -> None:
    """Take all pictures.

    Args:
        folder: where they go, as ``page-NAME-WIDTH-SCHEME.png``.
        work: an existing folder for certificates and the browser's profile.
        display: the browser's screen.
    """
    ca, services, app = ThrowAwayCA(work), FakeServices(), web.Application()
    setup(app, services)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 8443, ssl_context=ca.server_context()).start()
    portal = Portal(8443)
    policies = Policies().block_loopback(portal.origin)
    browser = chromium(
        display, work, portal=portal, ca_file=ca.ca_file, policies=policies, extra=["--hide-scrollbars"]
    )
    async with browser as context:
        for name, (path, prepare) in SCENES.items():
            for width, scheme in _ALL_KINDS if name in _IN_ALL_KINDS else _KINDS:
                _reset(services)
                cookie = {"name": "__Host-inlay-session", "value": services.open_session()}
                cookie["url"] = portal.origin
                await context.add_cookies([cookie | {"secure": True, "httpOnly": True}])  # type: ignore[list-item]
                prepare(services)
                page = context.pages[0]
                await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
                await page.set_viewport_size({"width": width, "height": 780})
                await page.goto(portal.origin + path)
                await _take(page, folder / f"page-{name}-{width}-{scheme}.png")
    services.event_queue.put_nowait(None)
    await runner.cleanup()


def _reset(services: FakeServices) -> None:
    services.sessions.clear()
    services.process_view = None
    services.codes = 0
    services.now = int(time.time())
    roles = frozenset({Role.SELF_SERVICE, Role.ADMINISTRATOR})
    services.user = replace(services.user, state=UserState.ACTIVE, roles=roles)
    services.card_views = [card()]


async def _take(page: Page, path: Path) -> None:
    await page.wait_for_load_state("load")
    await page.screenshot(path=path, full_page=True, animations="disabled", caret="hide")


def main() -> int:
    """Run the command."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    isolation.enter()
    with tempfile.TemporaryDirectory(prefix="inlay-pages-") as work, VirtualDisplay(Path(work)) as display:
        asyncio.run(shoot(folder, Path(work), display))
        pictures = [str(path) for name in SCENES for path in sorted(folder.glob(f"page-{name}-[0-9]*.png"))]
        display.run(
            "mogrify", "-strip", "+dither", "-colors", "96", *pictures, seconds=120
        )  # a fifth of the size
    return 0


if __name__ == "__main__":
    sys.exit(main())
