"""The agent's core put together for a test: real journal, trust store, device key and cards; fake person."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agent import keys_system
from agent.card_care import CardCare
from agent.card_places import CardPlaces
from agent.cards import VirtualCards
from agent.device import Device
from agent.folders import Folders
from agent.handlers.registry import order_handlers
from agent.journal_access import JournalAccess
from agent.order_desk import OrderDesk, Tools
from agent.order_ports import Services, Submission
from agent.ordered_card import CardReaders
from agent.ports import UserEnvironment
from agent.reader_watch import ReaderWatch
from agent.readers import PcscReaders
from agent.shutdown import Shutdown
from agent.trust import TrustStore
from agent.trust_desk import TrustStoreDesk
from agent.virtual_card_ports import CardOwner, Shown
from agent.vsc import personalise
from agent.vsc.state import Argon2Cost
from protocol.errors import InlayError
from protocol.messages import KeyCount, ReadersParams, Step, Transport
from tests.support.fake_windows import FakeNotifier, FakeWindows
from tests.support.simulated_readers import SimulatedReaders

if TYPE_CHECKING:
    import pytest

    from agent.vsc.card import VirtualCard
    from tests.support.fake_portal import FakePortal

CODE = "abcdefghijklmnopqrstuv"
OTHER_CODE = "ABCDEFGHIJKLMNOPQRSTUV"
CHEAP = Argon2Cost(passes=1, memory_kib=64, lanes=1)


class HasReaders(Protocol):
    """Readers of a test: simulated ones, or those of PC/SC."""

    def card_readers(self, machine: Path) -> CardReaders:
        """What the agent's core gets."""


class PcscReadersOfATest:
    """The readers of PC/SC, as they are."""

    def card_readers(self, machine: Path) -> CardReaders:
        """What the agent's core gets."""
        return CardReaders(ReaderWatch(), machine)


class NoPlaces(CardPlaces):
    """No readers: what is shown is remembered."""

    def __init__(self) -> None:
        super().__init__(list)
        self.shown: list[str] = []

    async def show(self, card: VirtualCard) -> Shown:
        self.shown.append(card.card_id)
        return Shown(None, InlayError("pcsc_no_virtual_reader"))


@dataclasses.dataclass
class FakePage:
    """The page at the other end of a loopback connection."""

    origin: str
    steps: list[Step] = dataclasses.field(default_factory=list)
    secrets: list[str] = dataclasses.field(default_factory=list)
    end: tuple[str, InlayError | None] | None = None
    shown: list[ReadersParams] = dataclasses.field(default_factory=list)
    following: asyncio.Task[None] | None = None

    def progress(self, step: Step, key: KeyCount | None = None) -> None:
        self.steps.append(step)

    def completion(self, secret: str) -> None:
        self.secrets.append(secret)

    def ended(self, outcome: str, error: InlayError | None) -> None:
        self.end = (outcome, error)

    def readers(self, shown: ReadersParams) -> None:
        self.shown.append(shown)

    def follow(self, work: Coroutine[Any, Any, None]) -> None:
        self.following = asyncio.create_task(work)


@dataclasses.dataclass
class AgentParts:
    """A running core."""

    folders: Folders
    trust: TrustStore
    device: Device
    journal: JournalAccess
    cards: VirtualCards
    places: NoPlaces
    windows: FakeWindows
    notifier: FakeNotifier
    desk: OrderDesk
    care: CardCare

    def services(self) -> Services:
        """What handlers work with."""
        trust = TrustStoreDesk(self.trust)
        return Services(
            self.desk,
            self.cards,
            PcscReaders(ReaderWatch(), self.folders.machine),
            trust,
            self.care,
            self.windows,
            Shutdown(self.desk.under_way),
        )

    def trust_portal(self, portal: FakePortal) -> None:
        self.trust.add(portal.portal, "Test portal", portal.root.public, portal.tls.ca_file.read_text())

    def submit(
        self,
        portal: FakePortal,
        code: str = CODE,
        transport: Transport = Transport.LINK,
        page: FakePage | None = None,
    ) -> Any:
        environment = UserEnvironment({"DISPLAY": ":9"})
        return self.desk.submit(Submission(portal.portal, code, transport, environment, page))

    def card_files(self) -> list[Path]:
        return sorted((self.folders.state / "cards").rglob("*.card"))

    def owner(self, portal: FakePortal, code: str = CODE) -> CardOwner:
        return CardOwner(portal.portal, f"order-{code}", "alex@example.org", 0)

    def everything_written(self) -> bytes:
        """All bytes of all files of the agent."""
        roots = (self.folders.config, self.folders.state)
        files = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
        return b"\n".join(path.read_bytes() for path in files)


def folders_in(home: Path) -> Folders:
    """The agent's folders below a test's own."""
    folders = Folders(home / "config", home / "state", home / "etc")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folders


def without_keystore(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a key store: level file."""

    def missing() -> object:
        raise keys_system.KeystoreMissing

    monkeypatch.setattr(keys_system, "_trusted_backend", missing)


def cheap_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards whose PIN costs next to nothing to try: tests aren't about Argon2id."""
    create = personalise.create
    monkeypatch.setattr(personalise, "create", lambda store, **named: create(store, **named, cost=CHEAP))


@asynccontextmanager
async def running_agent(home: Path, readers: HasReaders | None = None) -> AsyncIterator[AgentParts]:
    """A core on these folders, and these readers (none by default); may be started on them again after it ended."""
    folders = folders_in(home)
    readers = readers or SimulatedReaders()
    in_readers = readers.card_readers(folders.machine)
    device = Device(folders.state, allow_file=True)
    journal = JournalAccess(folders.journal, device)
    trust = TrustStore(folders)
    places = NoPlaces()
    cards = VirtualCards(folders.state, device, journal, places)
    windows, notifier = FakeWindows(), FakeNotifier()
    if isinstance(readers, SimulatedReaders):
        windows.person = readers.person_waited_for
    care = CardCare(cards, places, journal, device)
    handlers = order_handlers(cards, care, in_readers)
    here = UserEnvironment({"DISPLAY": ":9"})
    desk = OrderDesk(Tools(trust, device, journal, cards, windows, notifier, handlers, lambda: here))
    try:
        yield AgentParts(folders, trust, device, journal, cards, places, windows, notifier, desk, care)
        if isinstance(readers, SimulatedReaders):
            assert readers.held_for_person == [], "a person was waited for inside a transaction"
            assert readers.secrets_shown() == [], "a log of the traffic would have shown a secret"
    finally:
        await desk.close()
        await cards.close()
        journal.close()
