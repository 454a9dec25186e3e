"""A browser as far as these tests need one: cookies, the Origin header, forms with their hidden fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web
    from aiohttp.test_utils import TestClient
    from multidict import CIMultiDictProxy

    from portal.services import Services

VOID = {"meta", "link", "input", "path", "rect", "circle"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[Element] = field(default_factory=list)
    """the elements around it, outermost first"""


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, inside=list(self._open))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self._open[-1].name == tag, f"</{tag}> closes <{self._open[-1].name}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


@dataclass
class Page:
    """An answer, read."""

    status: int
    headers: CIMultiDictProxy[str]
    html: str
    set_cookies: list[str]

    @property
    def location(self) -> str:
        return self.headers["Location"]

    def all(self, name: str, **attributes: str) -> list[Element]:
        parser = _Parser()
        parser.feed(self.html)
        assert not parser._open, [element.name for element in parser._open]
        return [
            element
            for element in parser.elements
            if name in (element.name, "*")
            and all(element.attributes.get(key) == value for key, value in attributes.items())
        ]

    def one(self, name: str, **attributes: str) -> Element:
        found = self.all(name, **attributes)
        assert len(found) == 1, f"{len(found)} <{name}> {attributes}"
        return found[0]

    def hidden(self, action: str) -> dict[str, str]:
        """The hidden fields of the form with this action."""
        return {
            item.attributes["name"]: item.attributes.get("value", "")
            for item in self.all("input", type="hidden")
            if any(around.attributes.get("action") == action for around in item.inside)
        }

    @property
    def text(self) -> str:
        return " ".join(self.one("main").text.split())


class Visitor:
    """A browser."""

    def __init__(self, client: TestClient[web.Request, web.Application], services: Services) -> None:
        self.client = client
        self.services = services
        self.cookies: dict[str, str] = {}

    async def get(self, path: str, **headers: str) -> Page:
        return await self._send("GET", path, None, headers)

    async def post(
        self, path: str, form: dict[str, str] | list[tuple[str, str]], origin: str | None = "", **headers: str
    ) -> Page:
        """Send a form; ``origin`` None sends no Origin header, "" the portal's own."""
        if origin is not None:
            headers["Origin"] = origin or self.services.info.origin
        return await self._send("POST", path, form, headers)

    async def submit(self, page: Page, action: str, **fields: str) -> Page:
        """Send a page's form with its hidden fields."""
        return await self.post(action, page.hidden(action) | fields)

    async def _send(
        self,
        method: str,
        path: str,
        form: dict[str, str] | list[tuple[str, str]] | None,
        headers: dict[str, str],
    ) -> Page:
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.client.request(method, path, data=form, headers=headers, allow_redirects=False)
        async with answer:
            html = await answer.text()
        set_cookies = answer.headers.getall("Set-Cookie", [])
        for line in set_cookies:
            name, _, rest = line.partition("=")
            self.cookies[name] = rest.partition(";")[0].strip('"')
        return Page(answer.status, answer.headers, html, set_cookies)
