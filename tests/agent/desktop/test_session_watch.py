"""Whether the person is there: the rules by themselves, and against a logind that does as told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jeepney import DBusAddress, HeaderFields, new_method_call, new_signal
from jeepney.io.blocking import open_dbus_connection

from agent.desktop import session_watch
from agent.desktop.bus import Bus, BusError
from agent.desktop.session_watch import SessionWatch
from agent.desktop.sessions import Presence, SessionFacts, facts
from protocol.errors import InlayError
from tests.support.logind import MockLogind, session

HERE = SessionFacts("/1", seated=True, active=True, locked=False)
REMOTE = SessionFacts("/2", seated=False, active=True, locked=False)


# --- the rules


@pytest.mark.parametrize(
    ("sessions", "absence"),
    [
        ([], None),  # a machine without log-ins
        ([HERE], None),
        ([REMOTE], None),
        ([HERE._replace(locked=True)], "session_locked"),
        ([HERE._replace(active=False)], "session_inactive"),
        ([HERE._replace(active=False, locked=True)], "session_inactive"),
        ([HERE._replace(locked=True), REMOTE], "session_locked"),
        ([HERE._replace(active=False), REMOTE], "session_inactive"),
        ([HERE._replace(locked=True, active=False), HERE._replace(path="/3")], None),
        ([REMOTE._replace(locked=True)], "session_locked"),
    ],
)
def test_who_counts(sessions: list[SessionFacts], absence: str | None) -> None:
    presence = Presence()
    presence.now(sessions)
    assert presence.absence == absence


def test_logged_out_is_who_was_logged_in() -> None:
    presence = Presence()
    assert presence.blind is not None
    presence.now([HERE])
    assert presence.blind is None
    presence.now([])
    assert presence.absence == "session_ended"
    presence.now([HERE])
    assert presence.absence is None


def test_a_lock_that_no_locker_confirms_lasts_until_something_tells() -> None:
    presence = Presence()
    presence.now([HERE])

    def by_way_of(other: SessionFacts) -> None:
        presence.now([other])
        presence.now([HERE])

    endings: list[Callable[[], None]] = [
        lambda: presence.unlock("/1"),
        presence.person_asks,
        lambda: by_way_of(HERE._replace(active=False)),
        lambda: by_way_of(HERE._replace(locked=True)),
    ]
    for ending in endings:
        presence.lock("/1")
        presence.now([HERE])
        assert presence.absence == "session_locked"
        ending()
        assert presence.absence is None


def test_asking_does_not_open_a_screen_that_says_it_is_locked() -> None:
    presence = Presence()
    presence.now([HERE._replace(locked=True)])
    presence.person_asks()
    assert presence.absence == "session_locked"


def test_leaving_comes_before_everything() -> None:
    presence = Presence()
    presence.leave(True)
    presence.now([HERE])
    assert presence.absence == "session_leaving"
    presence.leave(False)
    assert presence.absence is None


def test_a_lock_of_a_session_that_is_not_known_is_nothing() -> None:
    presence = Presence()
    presence.now([HERE])
    presence.lock("/9")
    assert presence.absence is None


@pytest.mark.parametrize(
    "properties",
    [{"Class": "greeter"}, {"Class": "lock-screen"}, {"Class": "background"}, {"State": "closing"}],
)
def test_sessions_without_a_person_do_not_count(properties: dict[str, object]) -> None:
    assert facts("/1", {"Active": True, "Seat": ("seat0", "/s"), **properties}) is None


@given(st.dictionaries(st.sampled_from(["Class", "State", "Active", "LockedHint"]), st.booleans()))
def test_odd_properties_are_facts_or_nobody(properties: dict[str, object]) -> None:
    found = facts("/1", properties)
    assert found is None or found.seated is False


# --- logind


class Told:
    """What the watch has told."""

    def __init__(self) -> None:
        self.codes: list[str | None] = []
        self._more = asyncio.Event()

    def __call__(self, absence: InlayError | None) -> None:
        self.codes.append(None if absence is None else absence.code)
        self._more.set()

    async def until(self, code: str | None, count: int = 1) -> None:
        """Wait until this is the last word, for the given time."""
        async with asyncio.timeout(20):
            while not self.codes or self.codes[-1] != code or self.codes.count(code) < count:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def logind(tmp_path: Path) -> Iterator[MockLogind]:
    running = MockLogind(tmp_path).start()
    yield running
    running.stop()


@pytest.fixture
async def watch(logind: MockLogind) -> AsyncIterator[SessionWatch]:
    watching = SessionWatch(logind.address)
    yield watching
    await watching.close()


@pytest.mark.interop
async def test_without_a_bus_it_is_said_and_nothing_runs(tmp_path: Path) -> None:
    watch, told = SessionWatch(f"unix:path={tmp_path}/none"), Told()
    before = asyncio.all_tasks()
    await watch.start(told)
    assert told.codes == []
    assert watch.blind is not None
    assert watch.blind.code == "session_unwatched"
    assert "no system bus" in watch.blind.why
    assert asyncio.all_tasks() == before
    await watch.person_asks()
    await watch.close()


@pytest.mark.interop
async def test_without_logind_it_is_said_until_it_comes(tmp_path: Path) -> None:
    logind = MockLogind(tmp_path).start_bus()
    watch, told = SessionWatch(logind.address), Told()
    try:
        await watch.start(told)
        assert watch.blind is not None
        assert "does not answer" in watch.blind.why
        await asyncio.to_thread(logind.start)
        await asyncio.to_thread(logind.add_session, "1")
        await asyncio.to_thread(logind.change, "1", LockedHint=True)
        await told.until("session_locked")
        assert watch.blind is None
    finally:
        await watch.close()
        logind.stop()


@pytest.mark.interop
async def test_a_day_of_a_session(logind: MockLogind, watch: SessionWatch) -> None:
    told = Told()
    logind.add_session("1")
    await watch.start(told)
    assert told.codes == []
    assert watch.blind is None
    for happens, code in (
        (lambda: logind.change("1", LockedHint=True), "session_locked"),
        (lambda: logind.change("1", LockedHint=False), None),
        (lambda: logind.lock("1"), "session_locked"),
        (lambda: logind.unlock("1"), None),
        (lambda: logind.change("1", Active=False), "session_inactive"),
        (lambda: logind.change("1", Active=True), None),
        (lambda: logind.prepare("Sleep", True), "session_leaving"),
        (lambda: logind.prepare("Sleep", False), None),
        (lambda: logind.prepare("Shutdown", True), "session_leaving"),
        (lambda: logind.prepare("Shutdown", False), None),
        (lambda: logind.end_session("1"), "session_ended"),
        (lambda: logind.add_session("2"), None),
    ):
        count = told.codes.count(code) + 1
        await asyncio.to_thread(happens)
        await told.until(code, count)


@pytest.mark.interop
async def test_locked_at_the_start_is_told_before_anything_is_shown(
    logind: MockLogind, watch: SessionWatch
) -> None:
    logind.add_session("1")
    logind.change("1", LockedHint=True)
    told = Told()
    await watch.start(told)
    assert told.codes == ["session_locked"]


@pytest.mark.interop
async def test_a_log_in_over_the_network_counts_for_itself_alone(
    logind: MockLogind, watch: SessionWatch
) -> None:
    logind.add_session("1", seat="")
    told = Told()
    await watch.start(told)
    assert told.codes == []
    await asyncio.to_thread(logind.add_session, "2", active=False)
    await told.until("session_inactive")
    await asyncio.to_thread(logind.end_session, "2")
    await told.until(None)


@pytest.mark.interop
async def test_another_users_session_is_none_of_ours(logind: MockLogind, watch: SessionWatch) -> None:
    logind.add_session("1")
    logind.add_session("2", user=os.geteuid() + 1, active=False)
    logind.add_session("3", user=os.geteuid() + 1, seat="")
    told = Told()
    await watch.start(told)
    logind.change("2", LockedHint=True)
    logind.lock("2")
    await watch.person_asks()  # judged again, after all of that
    assert told.codes == []


@pytest.mark.interop
async def test_a_forged_signal_is_not_believed(logind: MockLogind, watch: SessionWatch) -> None:
    """Anybody may send signals on the system bus; only logind's count."""
    logind.add_session("1")
    told = Told()
    await watch.start(told)
    logind.lock("1")
    await told.until("session_locked")
    assert watch._bus is not None
    forged = DBusAddress(session("1"), interface="org.freedesktop.login1.Session")
    with open_dbus_connection(logind.address) as forger:
        message = new_signal(forged, "Unlock")
        message.header.fields[HeaderFields.destination] = (
            watch._bus._connection.unique_name
        )  # straight to the agent
        forger.send(message)
        forger.send_and_get_reply(_ping(watch._bus._connection.unique_name))
    await watch._judge()
    assert told.codes == ["session_locked"]


def _ping(name: str) -> object:
    address = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
    return new_method_call(address, "NameHasOwner", "s", (name,))


@pytest.mark.interop
async def test_the_person_who_asks_is_there(logind: MockLogind, watch: SessionWatch) -> None:
    logind.add_session("1")
    told = Told()
    await watch.start(told)
    logind.lock("1")
    await told.until("session_locked")
    await watch.person_asks()
    assert told.codes == ["session_locked", None]


@pytest.mark.interop
async def test_a_logind_that_restarts_is_asked_again(logind: MockLogind, watch: SessionWatch) -> None:
    """What it said last holds meanwhile: nothing is shown on a locked screen for a restart."""
    logind.add_session("1")
    logind.change("1", LockedHint=True)
    told = Told()
    await watch.start(told)
    await asyncio.to_thread(logind.stop_logind)
    await watch._judge()
    assert watch.blind is not None
    assert told.codes == ["session_locked"]
    assert await watch.person_asks() is None
    assert told.codes == ["session_locked", None]
    await asyncio.to_thread(logind.start)
    await asyncio.to_thread(logind.add_session, "1")
    await asyncio.to_thread(logind.change, "1", Active=False)
    await told.until("session_inactive")


@pytest.mark.interop
async def test_a_bus_that_went_is_tried_again(
    logind: MockLogind, watch: SessionWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_watch, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(session_watch, "_LAST_PAUSE", 0.05)
    logind.add_session("1")
    told = Told()
    await watch.start(told)
    await asyncio.to_thread(logind.stop)
    await asyncio.to_thread(logind.start)
    await asyncio.to_thread(logind.add_session, "1")
    await asyncio.to_thread(logind.change, "1", LockedHint=True)
    await told.until("session_locked")
    assert watch.blind is None


@pytest.mark.interop
async def test_calls_on_a_bus_that_went_say_so(logind: MockLogind) -> None:
    bus = await Bus.open(logind.address, lambda _signal: None)
    assert await bus.owner("org.freedesktop.login1") is not None
    assert await bus.owner("org.example.nobody") is None
    with pytest.raises(BusError) as caught:
        await bus.call("org.example.nobody", "/", "org.example", "Method")
    assert caught.value.name.startswith("org.freedesktop.DBus.Error.")
    await asyncio.to_thread(logind.stop)
    await bus.ended.wait()
    with pytest.raises(BusError):
        await bus.follow("org.freedesktop.login1")
    await bus.close()
