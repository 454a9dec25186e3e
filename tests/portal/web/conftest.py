"""The pages over the fake seam, and a browser's habits with forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from portal.web import setup
from tests.portal.web.fake_services import FakeServices
from tests.portal.web.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp.test_utils import TestClient


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
