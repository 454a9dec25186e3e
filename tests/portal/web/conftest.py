"""The pages over the fake seam, and a browser's habits with forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from portal.web import setup, setup_staff
from tests.portal.web.desk import Desk
from tests.portal.web.fake_services import FakeServices
from tests.portal.web.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp.test_utils import TestClient

    from tests.support.portal_kit import Kit


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
async def visitor(
    services: FakeServices,
    aiohttp_client: Callable[[web.Application], Awaitable[TestClient[web.Request, web.Application]]],
) -> AsyncIterator[Visitor]:
    """A browser that is not logged in."""
    app = web.Application()
    setup(app, services)
    client = await aiohttp_client(app)
    yield Visitor(client, services)
    services.event_queue.put_nowait(None)


@pytest.fixture
def person(visitor: Visitor, services: FakeServices) -> Visitor:
    """A browser that is logged in."""
    visitor.cookies["__Host-inlay-session"] = services.open_session()
    return visitor


@pytest.fixture
async def desk(
    kit: Kit,
    aiohttp_client: Callable[[web.Application], Awaitable[TestClient[web.Request, web.Application]]],
) -> Desk:
    """Staff's pages over a real portal."""
    app = web.Application()
    setup(app, kit.services)
    setup_staff(app, kit.portal.operator, kit.portal.administrator, kit.portal.batches)
    return Desk(kit, await aiohttp_client(app))
