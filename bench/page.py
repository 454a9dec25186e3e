"""The portal's pages without a browser: what is measured is Inlay, and not Chromium."""

from __future__ import annotations

import html
import http.cookiejar
import json
import re
import threading
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from tests.support.portal_process import Account
    from tests.support.stack import Site

_TOKEN = re.compile(r'name="(csrf[^"]*|[^"]*token[^"]*)" value="([^"]+)"')
_LINK = re.compile(r'id="open" href="([^"]+)"')
_VERSION = re.compile(r'name="expected_version" value="(\d+)"')
_PROCESS = re.compile(r'"(/processes/[0-9a-f]{32})/')
PROCESS = "VirtualSmartCardSelfServiceProcGet"


@dataclass
class Timeline:
    """When the order's events came: seconds by `time.perf_counter`, in the order of coming.

    Attributes:
        seen: name of a step or state, and when it was first seen.
    """

    seen: dict[str, float] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def note(self, name: str) -> None:
        """Something happened now."""
        with self._changed:
            self.seen.setdefault(name, time.perf_counter())
            self._changed.notify_all()

    def wait_for(self, name: str, seconds: float = 60) -> float:
        """When it happened, as soon as it has.

        Raises:
            TimeoutError: it didn't.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: name in self.seen, seconds):
                raise TimeoutError(name)
            return self.seen[name]


class PortalPages:
    """One session of one user."""

    def __init__(self, site: Site) -> None:
        """Begin without a session."""
        self._origin = site.portal.origin
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=site.ca.client_context()),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )
        self._csrf: dict[str, str] = {}
        self._process = ""

    def log_in(self, user: Account) -> None:
        """Log in."""
        self._get("/login")
        self._post("/login", {"email": user.email, "password": user.password})

    def begin(self) -> tuple[str, Timeline]:
        """Start the process and go to *Open Inlay*: the link, and the events from now on."""
        link = self.open_inlay()
        timeline = Timeline()
        stream = self._open(f"{self._process}/events")
        threading.Thread(target=_follow, args=(stream, timeline), daemon=True).start()
        return link, timeline

    def open_inlay(self, name: str = PROCESS, *, card: str | None = None) -> str:
        """Start a process, about a card where it is about one, and go to *Open Inlay*: the link."""
        about = {} if card is None else {"kind": "virtual_smart_card", "id": card}
        path, fields = self._first_step(self._post("/processes", {"name": name, **about}))
        return self._to_link(self._post(path, fields))

    def _first_step(self, text: str) -> tuple[str, dict[str, str]]:
        """Where the form of a process's first step is sent, and what it has hidden."""
        version = _VERSION.search(text)
        found = re.search(r'action="(/processes/[^/"]+/next)"', text)
        if version is None or found is None:
            raise RuntimeError("the process isn't at its first step")
        return found[1], {"expected_version": version[1]}

    def _to_link(self, text: str) -> str:
        """The link of a process's page; the process is the running one from now on."""
        link, found = _LINK.search(text), _PROCESS.search(text)
        if link is None or found is None:
            raise RuntimeError("the page has no link")
        self._process = found[1]
        return html.unescape(link[1])

    @property
    def process(self) -> str:
        """The running process's id."""
        return self._process.rpartition("/")[2]

    def cancel(self) -> None:
        """*Cancel*."""
        self._post(f"{self._process}/cancel", {})

    def number(self, number: str) -> None:
        """Type the number."""
        self._post(f"{self._process}/number", {"number": number})

    def finish(self) -> None:
        """*Next* at the details."""
        version = _VERSION.search(self._get(self._process))
        if version is not None:
            self._post(f"{self._process}/next", {"expected_version": version[1]})

    def _get(self, path: str) -> str:
        with self._open(path) as answer:
            return self._read(answer)

    def _post(self, path: str, fields: dict[str, str]) -> str:
        body = urllib.parse.urlencode(self._csrf | fields).encode()
        with self._open(path, body) as answer:
            return self._read(answer)

    def _open(self, path: str, body: bytes | None = None) -> HTTPResponse:
        headers = {"Origin": self._origin} if body is not None else {}
        request = urllib.request.Request(self._origin + path, data=body, headers=headers)  # noqa: S310 (https alone)
        answer: HTTPResponse = self._opener.open(request, timeout=120)
        return answer

    def _read(self, answer: HTTPResponse) -> str:
        text = answer.read().decode()
        token = _TOKEN.search(text)
        if token is not None:
            self._csrf = {token[1]: token[2]}
        return text


def _follow(stream: HTTPResponse, timeline: Timeline) -> None:
    """Note each event of the portal's stream as it comes."""
    with stream:
        for raw in stream:
            line = raw.decode()
            if not line.startswith("data: "):
                continue
            event: dict[str, Any] = json.loads(line.removeprefix("data: "))
            if event.get("number_wanted"):
                timeline.note("number")
            for name in (event.get("step"), event.get("state")):
                if name:
                    timeline.note(str(name))
