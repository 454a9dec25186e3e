"""Staff at a real portal's pages: somebody with roles, logged in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.portal.web.visitor import Visitor
from tests.support.portal_kit import PASSWORD

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.test_utils import TestClient

    from portal.model.states import Role
    from tests.support.portal_kit import Kit


class Desk:
    """A portal whose pages several people use.

    Attributes:
        client: of the pages' server.
        user_id: of who was logged in first.
    """

    def __init__(self, kit: Kit, client: TestClient[web.Request, web.Application]) -> None:
        self.kit = kit
        self.client = client
        self.user_id = ""

    async def person(self, email: str, *roles: Role) -> Visitor:
        """A browser in which a new account is logged in."""
        user = await self.kit.portal.accounts.add(email, "Ada Example", PASSWORD, roles)
        self.user_id = self.user_id or user.id
        return await self.login(email)

    async def login(self, email: str) -> Visitor:
        """A browser in which an account that is there is logged in."""
        visitor = Visitor(self.client, self.kit.services)
        page = await visitor.submit(await visitor.get("/login"), "/login", email=email, password=PASSWORD)
        assert page.location == "/start"
        return visitor

    def stranger(self) -> Visitor:
        """A browser that is not logged in."""
        return Visitor(self.client, self.kit.services)
