"""Cards are where they belong: nobody there, key store locked, lost and back, whatever comes at once."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent import card_keeper, keys_system
from agent.card_keeper import CardKeeper
from agent.card_places import CardPlaces
from agent.desktop.key_store_watch import KeyStoreWatch
from agent.device import Device
from agent.virtual_card_ports import CardOwner, Shown
from agent.vsc.card import VirtualCard
from protocol.errors import InlayError
from protocol.messages import StorageLevel
from tests.support.agent_parts import AgentParts, cheap_cards, folders_in, running_agent
from tests.support.keystore import KeyStore

OWNER = CardOwner("portal.test", "order-1", "alex@example.org", 1_900_000_000)


class FakePlaces(CardPlaces):
    """Readers without PC/SC: what is in them, and what was done to them."""

    def __init__(self) -> None:
        super().__init__(list, away=InlayError("agent_starting"))
        self.within: set[str] = set()
        self.done: list[str] = []
        self.withdrawing = asyncio.Event()
        self.may_withdraw = asyncio.Event()
        self.may_withdraw.set()
        self.changed = asyncio.Event()

    async def show(self, card: VirtualCard) -> Shown:
        if self._away is None:
            self.within.add(card.card_id)
        self.changed.set()
        return Shown("Reader" if card.card_id in self.within else None, self._away)

    async def withdraw(self, why: InlayError) -> None:
        self._away = why
        self.withdrawing.set()
        await self.may_withdraw.wait()
        self._note(why.code, set())

    async def readmit(self) -> None:
        if self._away is not None:
            self._away = None
            self._note("readmit", self.within)

    def _note(self, what: str, within: set[str]) -> None:
        self.done.append(what)
        self.within = within
        self.changed.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something holds that a change of the readers brings."""
        async with asyncio.timeout(20):
            while not reached():
                self.changed.clear()
                await self.changed.wait()


class FakeSessions:
    """The person comes and goes as a test says."""

    def __init__(self, absence: str | None = None) -> None:
        self.absence = absence
        self.blind: InlayError | None = None
        self.changed: Callable[[InlayError | None], None] | None = None

    async def start(self, changed: Callable[[InlayError | None], None]) -> None:
        self.changed = changed
        if self.absence is not None:
            changed(InlayError(self.absence))

    def become(self, absence: str | None) -> None:
        assert self.changed is not None
        self.absence = absence
        self.changed(None if absence is None else InlayError(absence))

    async def person_asks(self) -> InlayError | None:
        return None if self.absence is None else InlayError(self.absence)

    async def close(self) -> None:
        self.changed = None


class FakeKeyStore:
    """Says that something changed when a test says so."""

    def __init__(self) -> None:
        self.changed: Callable[[], None] | None = None

    async def start(self, changed: Callable[[], None]) -> bool:
        begun = self.changed is None
        self.changed = changed
        return begun

    async def close(self) -> None:
        self.changed = None


@dataclasses.dataclass
class Kept:
    """A keeper and what it works with."""

    agent: AgentParts
    places: FakePlaces
    sessions: FakeSessions
    key_store: FakeKeyStore
    keeper: CardKeeper
    caught_up: list[str]


@asynccontextmanager
async def kept(home: Path, sessions: FakeSessions | None = None) -> AsyncIterator[Kept]:
    async with running_agent(home) as agent:
        caught_up: list[str] = []

        async def catch_up() -> None:
            caught_up.append("done")

        places, key_store = FakePlaces(), FakeKeyStore()
        agent.cards._places = places
        agent.cards._sessions = sessions = sessions or FakeSessions()
        keeper = CardKeeper(agent.cards, places, agent.device, catch_up, sessions, key_store)
        try:
            yield Kept(agent, places, sessions, key_store, keeper, caught_up)
        finally:
            await keeper.close()


async def make(home: Path, level: StorageLevel = StorageLevel.FILE) -> str:
    """An active card, left behind by an agent that ended."""
    async with running_agent(home) as agent:
        await agent.cards.make(OWNER, level, "Card", bytearray(b"Zq7-91"), bytearray(b"12345678"))
        await agent.cards.activate(OWNER)
        await asyncio.to_thread(agent.device.key)
        return agent.cards.card_name(OWNER)


@pytest.fixture
async def home(tmp_path: Path, no_keystore: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    cheap_cards(monkeypatch)
    return tmp_path / "home"


def key_store_is(monkeypatch: pytest.MonkeyPatch, error: InlayError) -> None:
    """No secret can be opened."""

    def refuse(*_given: object, **_named: object) -> keys_system.DeviceSecret:
        raise error

    monkeypatch.setattr("agent.device.keys_system.open_device_secret", refuse)


# --- the person


async def test_nobody_there_at_the_start_shows_nothing(home: Path) -> None:
    name = await make(home)
    async with kept(home, FakeSessions("session_locked")) as parts:
        await parts.keeper.start()
        assert parts.places.within == set()
        [row] = await parts.agent.cards.overview()
        assert (row["code"], row["reader"]) == ("session_locked", None)
        assert "by itself" in row["next"]
        parts.sessions.become(None)
        await parts.places.until(lambda: name in parts.places.within)


async def test_cards_go_and_come_with_the_person(home: Path) -> None:
    name = await make(home)
    async with kept(home) as parts:
        await parts.keeper.start()
        assert parts.places.within == {name}
        assert parts.caught_up == ["done"]
        parts.sessions.become("session_locked")
        await parts.places.until(lambda: not parts.places.within)
        parts.sessions.become(None)
        await parts.places.until(lambda: name in parts.places.within)
        assert parts.places.done == ["readmit", "session_locked", "readmit"]
        assert parts.caught_up == ["done"]


async def test_who_comes_back_while_cards_still_go_finds_them(home: Path) -> None:
    name = await make(home)
    async with kept(home) as parts:
        await parts.keeper.start()
        parts.places.may_withdraw.clear()
        parts.sessions.become("session_locked")
        await asyncio.wait_for(parts.places.withdrawing.wait(), 10)
        parts.sessions.become("session_inactive")
        parts.sessions.become(None)
        parts.places.may_withdraw.set()
        await parts.places.until(lambda: len(parts.places.done) == 3 and name in parts.places.within)
        assert parts.places.done == ["readmit", "session_locked", "readmit"]


# --- the key store


@pytest.mark.parametrize("code", ["keystore_locked", "keystore_missing", "device_secret_lost"])
async def test_what_the_key_store_holds_up_is_said_and_caught_up_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    name = await make(home)
    async with kept(home) as parts:
        with monkeypatch.context() as shut:
            key_store_is(shut, keys_system.DeviceSecretError(code))
            await parts.keeper.start()
            assert parts.caught_up == []
            [row] = await parts.agent.cards.overview()
            assert (row["card"], row["code"], row["state"]) == (name, code, "unusable")
            assert row["account"] == OWNER.account  # the journal tells that much without its key
        assert parts.key_store.changed is not None
        parts.key_store.changed()
        await parts.places.until(lambda: name in parts.places.within)
        assert parts.caught_up == ["done"]
        assert parts.key_store.changed is None  # nothing is missing: nobody listens


async def test_a_key_store_that_says_nothing_is_looked_at(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await make(home)
    monkeypatch.setattr(card_keeper, "_LOOK_SECONDS", 0.05)
    async with kept(home) as parts:
        with monkeypatch.context() as locked:
            key_store_is(locked, keys_system.KeystoreLocked())
            await parts.keeper.start()
            assert parts.places.within == set()
        await parts.places.until(lambda: name in parts.places.within)


async def test_a_lost_secret_is_said_with_the_portal_that_makes_a_new_card(home: Path) -> None:
    """Neither overwritten nor deleted: the file is as it was."""
    await make(home)
    state = folders_in(home).state
    [secret] = state.rglob("device-secret.key")
    [file] = state.rglob("*.card")
    before, kept_aside = file.read_bytes(), secret.read_bytes()
    for content in (None, b"\x00" * 32):
        secret.unlink() if content is None else secret.write_bytes(content)
        secret.touch(0o600)
        async with kept(home) as parts:
            await parts.keeper.start()
            [row] = await parts.agent.cards.overview()
            assert row["code"] == "device_secret_lost"
            assert "https://portal.test/" in row["next"]
    assert file.read_bytes() == before
    secret.write_bytes(kept_aside)
    async with kept(home) as parts:
        await parts.keeper.start()
        assert len(parts.places.within) == 1


async def test_a_secret_in_a_file_that_others_can_read_is_not_used(home: Path) -> None:
    await make(home)
    [secret] = folders_in(home).state.rglob("device-secret.key")
    secret.chmod(0o644)
    async with kept(home) as parts:
        await parts.keeper.start()
        [row] = await parts.agent.cards.overview()
        assert row["code"] == "secret_file_refused"
        assert parts.places.within == set()


async def test_while_the_key_store_asks_the_person_nobody_else_waits_for_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order has the key store's window open; `inlay cards` answers all the same."""
    await make(home)
    monkeypatch.setattr("agent.device._BUSY_SECONDS", 0.05)
    async with kept(home) as parts:
        with parts.agent.device._lock:
            [row] = await asyncio.wait_for(parts.agent.cards.overview(), 10)
        assert row["code"] == "keystore_locked"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda raw: raw[:40], "card_damaged"),
        (lambda raw: raw[:-1], "card_damaged"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "card_damaged"),
        (lambda raw: raw[:8] + b"\x00\x63" + raw[10:], "card_version"),
        (lambda raw: b"", "card_damaged"),
    ],
)
async def test_one_bad_file_is_said_and_hides_no_other(
    home: Path, spoil: Callable[[bytes], bytes], code: str
) -> None:
    bad = await make(home)
    async with running_agent(home) as agent:
        other = dataclasses.replace(OWNER, jti="order-2")
        await agent.cards.make(
            other, StorageLevel.FILE, "Other", bytearray(b"Zq7-91"), bytearray(b"12345678")
        )
        await agent.cards.activate(other)
    [file] = (path for path in folders_in(home).state.rglob("*.card") if path.stem == bad)
    file.write_bytes(spoil(file.read_bytes()))
    spoiled = file.read_bytes()
    async with kept(home) as parts:
        await parts.keeper.start()
        rows = {row["card"]: row for row in await parts.agent.cards.overview()}
        assert rows[bad]["code"] == code
        assert rows[bad]["state"] == "unusable"
        assert [row["reader"] for name, row in rows.items() if name != bad] == ["Reader"]
        assert parts.key_store.changed is None  # no key store mends that
    assert file.read_bytes() == spoiled


async def test_a_card_whose_journal_was_lost_is_shown_all_the_same(home: Path) -> None:
    name = await make(home)
    for path in folders_in(home).state.glob("journal.sqlite*"):
        path.unlink()
    async with kept(home) as parts:
        await parts.keeper.start()
        assert parts.places.within == {name}


# --- a real one


@pytest.fixture
def key_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyStore]:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)}
    store = KeyStore(tmp_path, environment)
    assert store.start()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", store.address)
    yield store
    store.stop()


@pytest.mark.interop
@pytest.mark.parametrize("way", ["unlock", "unlock_silently"])
async def test_gnome_keyring_is_unlocked_and_the_card_comes(
    tmp_path: Path, key_store: KeyStore, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Asked by nobody, and asking nobody: no window of the key store opens."""
    cheap_cards(monkeypatch)
    home = tmp_path / "home"
    name = await make(home, StorageLevel.KEYSTORE)
    await asyncio.to_thread(key_store.lock)
    if way == "unlock_silently":
        monkeypatch.setattr(card_keeper, "_LOOK_SECONDS", 0.2)
    async with kept(home) as parts:
        watch = KeyStoreWatch()
        parts.keeper._key_store = watch
        await asyncio.wait_for(parts.keeper.start(), 20)
        [row] = await parts.agent.cards.overview()
        assert (row["card"], row["code"], row["level"]) == (name, "keystore_locked", "keystore")
        assert watch._bus is not None
        await asyncio.to_thread(getattr(key_store, way))
        await parts.places.until(lambda: name in parts.places.within)
        assert parts.caught_up == ["done"]


@pytest.mark.interop
async def test_a_first_start_with_a_locked_key_store_asks_nobody(tmp_path: Path, key_store: KeyStore) -> None:
    """Nothing is made at a lower level, either."""
    await asyncio.to_thread(key_store.lock)
    device = Device(folders_in(tmp_path / "home").state, allow_file=True)
    async with asyncio.timeout(20):
        error = await asyncio.to_thread(device.open_unasked)
    assert error is not None
    assert error.code == "keystore_locked"
    left = await asyncio.to_thread(lambda: list(tmp_path.rglob("device-secret.*")))
    assert left == []


@pytest.mark.interop
async def test_without_a_session_bus_nobody_listens(tmp_path: Path) -> None:
    watch = KeyStoreWatch(f"unix:path={tmp_path}/none")
    assert await watch.start(lambda: None) is False
    await watch.close()
