"""One portal for all moments, a new desk with an agent of its own for each; every part is a real process."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import sys
import tempfile
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from bench.page import PortalPages
from tests.faults.errands import CREATE
from tests.faults.hands import AtTerminal, AtWindow
from tests.faults.plan import PlanFolder
from tests.support.daemon_process import DaemonProcess
from tests.support.display import VirtualDisplay
from tests.support.pcscd import PrivatePcscd
from tests.support.portal_process import Account
from tests.support.stack import ANY_LEVEL, Site, password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.errands import Errand
    from tests.faults.hands import Hands

Pages = TypeVar("Pages", bound=PortalPages)
_HOOK = Path(__file__).with_name("hook.py")
_ORDERS_OF_A_SESSION = 20
"""A portal makes 30 codes for a session in five minutes."""


class Desk(NamedTuple):
    """A person at a machine that trusts the portal.

    Attributes:
        folder: everything of this desk.
        agent: its agent.
    """

    folder: Path
    agent: DaemonProcess


class AgentOrder(NamedTuple):
    """An order in an agent's journal."""

    jti: str
    stage: str
    outcome: str
    settled: bool


class Issued(NamedTuple):
    """A row of the CA's own list."""

    serial: str
    der: bytes
    revoked: bool


class Scene:
    """The processes.

    Attributes:
        plan: where hooks look.
        site: the portal.
        pcscd: the PC/SC service.
        display: a screen, where there is one.
        errand: what the person comes for.
        pages: the person's session.
    """

    def __init__(
        self,
        folder: Path,
        *,
        screen: bool,
        pcscd: PrivatePcscd | None = None,
        errand: Errand = CREATE,
        roles: tuple[str, ...] = (),
    ) -> None:
        """Prepare in an existing, empty folder; with a ``pcscd`` that runs, or one of its own.

        ``roles`` are the person's, where it is not the portal's default.
        """
        self.errand = errand
        self._made: str | None = None
        self.folder = folder
        for name in ("plan", "site", "pcscd", "screen", "desks"):
            (folder / name).mkdir()
        self.plan = PlanFolder(folder / "plan")
        self.site = Site(folder / "site")
        self.site.portal.program = [sys.executable, "-I", str(_HOOK), str(folder / "plan"), "portal"]
        self._own_pcscd = pcscd is None
        self.pcscd = pcscd or PrivatePcscd(folder / "pcscd")
        self.display = VirtualDisplay(folder / "screen") if screen else None
        self._user = Account(f"user-{secrets.token_hex(3)}@example.org", "Test user", password(), roles)
        self._orders = _ORDERS_OF_A_SESSION
        self.pages = PortalPages(self.site)

    def __enter__(self) -> Self:
        self.site.prepare(self._user, options={**ANY_LEVEL, "DeleteBySelfService": "true"})
        if self._own_pcscd:
            self.pcscd.start()
        self.site.portal.start()
        if self.display is not None:
            self.display.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.display is not None:
            self.display.stop()
        self.site.portal.stop()
        if self._own_pcscd:
            self.pcscd.stop()

    @contextlib.contextmanager
    def desk(self) -> Iterator[Desk]:
        """A new desk."""
        folder = Path(tempfile.mkdtemp(prefix="desk-", dir=self.folder / "desks"))
        program = (str(_HOOK), str(self.folder / "plan"), "agent")
        desk = Desk(folder, DaemonProcess(folder, program).start())
        self._made = None
        try:
            desk.agent.trust_now(self.site.portal.origin, self.site.ca.ca_file)
            yield desk
        finally:
            desk.agent.stop()
            shutil.rmtree(folder)

    def link(self) -> str:
        """A link to click, for an order of the errand: for a new card, or about the card that is there."""
        if self._made is None:
            return self.link_to_card()
        query = "SELECT card_id FROM orders WHERE jti = ?"
        [(card,)] = ask(self.site.portal.database, query, self._made)
        self._orders += 1
        return self.pages.open_inlay(self.errand.process, card=str(card))

    def link_to_card(self) -> str:
        """A link to click, for a new card."""
        return self.session(PortalPages).open_inlay()

    def session(self, kind: type[Pages]) -> Pages:
        """The person's session, for an order; a new one when this one has had its share of them."""
        if self._orders >= _ORDERS_OF_A_SESSION or not isinstance(self.pages, kind):
            self.pages = kind(self.site)
            self.pages.log_in(self._user)
            self._orders = 0
        self._orders += 1
        assert isinstance(self.pages, kind)
        return self.pages

    def hands(self, desk: Desk, link: str, *, window: bool) -> Hands:
        """The person's hands; nothing is clicked yet."""
        if window and self.display is not None:
            return AtWindow(desk.agent, self.pages, link, self.display)
        return AtTerminal(desk.agent, self.pages, link, CREATE if self._made is None else self.errand)

    def card_is_there(self) -> None:
        """The order that was begun last has made this desk's card: what comes now is about it."""
        self._made, _ = self.order()
        self.leave()

    @property
    def maker(self) -> str:
        """The order that has made the desk's card, or is making it."""
        return self._made or self.order()[0]

    @property
    def about_card(self) -> list[str]:
        """The orders about the desk's card: what has made it, and what came afterwards."""
        return list(dict.fromkeys((self.maker, self.order()[0])))

    def leave(self) -> None:
        """The person leaves the process's page, whatever state it is in: the next order begins anew."""
        self.pages.finish()
        try:
            self.pages.cancel()
        except urllib.error.HTTPError as refused:  # it has ended
            refused.close()

    def pids(self, desk: Desk) -> dict[str, int]:
        """Who may be killed."""
        return {"agent": desk.agent.pid, "portal": self.site.portal.pid, "pcscd": self.pcscd.pid}

    def starved(self, desk: Desk) -> float:
        """Seconds that agent, portal and PC/SC service have waited for a processor, each since it was started.

        What a busy machine takes from them is no time of theirs.
        """
        return sum(map(waited, self.pids(desk).values()))

    def start_again(self, victim: str, desk: Desk) -> None:
        """Start what was killed, from its files; a window isn't started by anybody."""
        match victim:
            case "agent":
                desk.agent.kill()  # its process group: whatever the system would still end
                desk.agent.start()
            case "portal":
                self.site.portal.kill()
                self.site.portal.start()
            case "pcscd":
                self.pcscd.kill()
                self.pcscd.start()
            case _:
                return

    # --- what the files say

    def order(self) -> tuple[str, str]:
        """The order of the process that was begun last: its id, and its state."""
        query = "SELECT jti, state FROM orders WHERE process_id = ?"
        [(jti, state)] = ask(self.site.portal.database, query, self.pages.process)
        return str(jti), str(state)

    def unrevoked(self, jti: str) -> int:
        """How many revocations the CA hasn't confirmed yet."""
        query = "SELECT count(*) FROM revocation_queue JOIN certificates ON certificate_id = id WHERE order_jti = ?"
        [(count,)] = ask(self.site.portal.database, query, jti)
        return int(count)

    def issued(self, jti: str = "") -> list[Issued]:
        """The CA's own list, of an order, or of all without one."""
        query = (
            "SELECT serial, der, revoked_at FROM ca_certificates WHERE NOT own AND request_id LIKE ? || '%'"
        )
        rows = ask(self.site.portal.database, query, jti and f"{jti}.")
        return [Issued(serial, der, revoked_at is not None) for serial, der, revoked_at in rows]

    def guid(self, jti: str) -> str | None:
        """GUID of an order's card, once the portal knows it."""
        query = "SELECT guid FROM cards JOIN orders ON card_id = cards.id WHERE jti = ?"
        rows = ask(self.site.portal.database, query, jti)
        return str(rows[0][0]) if rows else None

    def shown(self, jti: str) -> tuple[list[str], list[str]]:
        """What the portal shows: states of the order's card, and of its certificates."""
        database = self.site.portal.database
        cards = ask(
            database, "SELECT cards.state FROM cards JOIN orders ON card_id = cards.id WHERE jti = ?", jti
        )
        certificates = ask(database, "SELECT state FROM certificates WHERE order_jti = ?", jti)
        return [str(state) for (state,) in cards], [str(state) for (state,) in certificates]


def waited(pid: int) -> float:
    """Seconds that a process was ready to run and didn't, over all threads it has now; 0 when it is gone."""
    seconds = 0.0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                seconds += int((task / "schedstat").read_text().split()[1]) / 1e9
    return seconds


def open_claims(desk: Desk) -> int:
    """How many claims an agent has sent whose answers it doesn't know."""
    path = desk.agent.state / "journal.sqlite"
    try:
        return len(ask(path, "SELECT id FROM claims")) if path.exists() else 0
    except sqlite3.OperationalError:  # it is just being made
        return 0


def journal(desk: Desk) -> list[AgentOrder]:
    """The orders in an agent's journal."""
    path = desk.agent.state / "journal.sqlite"
    if not path.exists():
        return []
    try:
        rows = ask(path, "SELECT jti, stage, outcome, settled FROM orders")
    except sqlite3.OperationalError:  # it is just being made
        return []
    return [AgentOrder(jti, stage, outcome, bool(settled)) for jti, stage, outcome, settled in rows]


def card_rows(desk: Desk) -> int:
    """How many cards an agent's journal knows."""
    path = desk.agent.state / "journal.sqlite"
    return len(ask(path, "SELECT card FROM cards")) if path.exists() else 0


def ask(database: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    """What a database on the disk says."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=15)) as connection:
        return connection.execute(query, values).fetchall()
