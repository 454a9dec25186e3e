"""Follows this user's sessions at logind (``org.freedesktop.login1`` on the system bus), by its signals alone.

Where there is no logind the cards stay in their readers, and it is said why. Where it went away, what it said last
holds until it is back or the person uses Inlay: a logind that restarts opens no locked computer. See
`agent.desktop.sessions` for the rules, and ADR 0007.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Final

from agent.desktop.bus import PROPERTIES, Bus, BusError, Signal
from agent.desktop.sessions import Presence, SessionFacts, facts
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger(__name__)

_SERVICE: Final = "org.freedesktop.login1"
_MANAGER: Final = "/org/freedesktop/login1"
_MANAGER_INTERFACE: Final = "org.freedesktop.login1.Manager"
_SESSION_INTERFACE: Final = "org.freedesktop.login1.Session"
_STIRRING: Final = frozenset({"SessionNew", "SessionRemoved", "PropertiesChanged", "NameOwnerChanged"})
_LEAVING: Final = frozenset({"PrepareForSleep", "PrepareForShutdown"})
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 60.0
"""Seconds before a bus that went is tried again."""


class SessionWatch:
    """See `agent.session_ports.SessionWatching`."""

    def __init__(self, bus: str = "SYSTEM", user: int | None = None) -> None:
        """Prepare; `start` begins.

        Args:
            bus: ``SYSTEM``, or a bus address.
            user: whose sessions; the agent's own when left out.
        """
        self._address = bus
        self._user = os.geteuid() if user is None else user
        self._presence = Presence()
        self._changed: Callable[[InlayError | None], None] | None = None
        self._bus: Bus | None = None
        self._owner: str | None = None
        self._started = asyncio.Event()
        self._stir = asyncio.Event()
        self._judging = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._unreachable: str | None = "was not asked yet"
        self._told: str | None = None

    @property
    def blind(self) -> InlayError | None:
        """See `agent.session_ports.SessionWatching`."""
        cause = self._unreachable or self._presence.blind
        return None if cause is None else InlayError("session_unwatched", cause=cause)

    async def start(self, changed: Callable[[InlayError | None], None]) -> None:
        """See `agent.session_ports.SessionWatching`."""
        self._changed = changed
        try:
            await self._connect()
        except BusError:
            self._unreachable = "can't be reached: there is no system bus"
            _LOG.warning("screen lock and log-out aren't noticed: no system bus")
        else:
            self._task = asyncio.create_task(self._follow())
        finally:
            self._started.set()

    async def person_asks(self) -> InlayError | None:
        """See `agent.session_ports.SessionWatching`."""
        await self._started.wait()
        self._presence.person_asks()
        with contextlib.suppress(BusError):  # it has just gone: `_follow` sees to that
            await self._judge()
        if self._unreachable is not None:  # what was known of who asks is out of date
            self._tell(None)
        return None if self._told is None else InlayError(self._told)

    async def close(self) -> None:
        """See `agent.session_ports.SessionWatching`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        await self._disconnect()

    async def _connect(self) -> None:
        """Connect, and judge.

        Raises:
            BusError: there is no system bus.
        """
        self._bus = await Bus.open(self._address, self._heard)
        try:
            await self._bus.follow(_SERVICE)
            await self._judge()
        except BaseException:
            await self._disconnect()
            raise

    async def _disconnect(self) -> None:
        bus, self._bus = self._bus, None
        if bus is not None:
            await bus.close()

    async def _follow(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            if self._bus is not None:
                await self._listen(self._bus)
                await self._disconnect()
                self._unreachable = "can't be reached: the system bus went away"
                _LOG.warning("screen lock and log-out aren't noticed: the system bus went away")
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)
            try:
                await self._connect()
            except BusError:
                continue

    async def _listen(self, bus: Bus) -> None:
        """Judge anew at each signal, until the bus has gone."""
        ended = asyncio.create_task(bus.ended.wait())
        try:
            while not bus.ended.is_set():
                stirred = asyncio.create_task(self._stir.wait())
                try:
                    await asyncio.wait({ended, stirred}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    stirred.cancel()
                self._stir.clear()
                await self._judge()
        except BusError:
            return
        finally:
            ended.cancel()

    def _heard(self, signal: Signal) -> None:
        """Note what a signal alone tells. On the system bus anybody may send one: logind's own are believed."""
        if signal.member not in ("NameOwnerChanged",) and signal.sender != self._owner:
            return
        if signal.interface == _SESSION_INTERFACE and signal.member == "Lock":
            self._presence.lock(signal.path)
        elif signal.interface == _SESSION_INTERFACE and signal.member == "Unlock":
            self._presence.unlock(signal.path)
        elif signal.interface == _MANAGER_INTERFACE and signal.member in _LEAVING:
            self._presence.leave(bool(signal.body and signal.body[0]))
        elif (signal.interface == PROPERTIES and signal.path == _MANAGER) or signal.member not in _STIRRING:
            return
        self._stir.set()

    async def _judge(self) -> None:
        """Ask logind, and tell what changed.

        Raises:
            BusError: the bus has gone.
        """
        async with self._judging:
            bus = self._bus
            if bus is None:
                return
            self._owner = await bus.owner(_SERVICE)
            try:
                self._presence.now(await self._sessions(bus))
            except BusError as error:
                if bus.ended.is_set():
                    raise
                _LOG.warning("logind can't be asked: %s", error.name or "no answer")
                self._unreachable = "does not answer"
            else:
                self._unreachable = None
                self._tell(self._presence.absence)

    async def _sessions(self, bus: Bus) -> list[SessionFacts]:
        (listed,) = await bus.call(_SERVICE, _MANAGER, _MANAGER_INTERFACE, "ListSessions")
        found = []
        for _, user, _, _, path in listed:
            if user != self._user:
                continue
            try:
                session = facts(path, await bus.properties(_SERVICE, path, _SESSION_INTERFACE))
            except BusError:  # it ended in between
                continue
            if session is not None:
                found.append(session)
        return found

    def _tell(self, absence: str | None) -> None:
        if absence == self._told:
            return
        self._told = absence
        _LOG.info("session: %s", absence or "somebody is there")
        if self._changed is not None:
            self._changed(None if absence is None else InlayError(absence))
