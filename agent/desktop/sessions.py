"""Whether a person is at their session, from what logind says of it: values in, an answer out, no I/O.

The rules:

- Sessions at a seat (screen and keyboard) count; those over the network only where the person has none at a seat.
  A second log-in over ssh doesn't make up for a locked screen.
- Somebody is there who has a session that is in front (``Active``) and not locked.
- A screen is locked when its locker says so (``LockedHint``), and from the moment it is told to lock (signal
  ``Lock``). Not every locker sets the hint: until it was seen, the lock lasts till ``Unlock``, till the session
  comes to the front again, or till the person uses Inlay.
- Without any session it is a log-out when there was one, else a machine that has no log-ins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PERSONS: Final = ("user", "user-early", "user-incomplete", "user-light", "user-early-light")


class SessionFacts(NamedTuple):
    """A session of this user's, as logind has it.

    Attributes:
        path: its object.
        seated: it is at a seat.
        active: it is in front of its seat; sessions without a seat always are.
        locked: its locker says that the screen is locked.
    """

    path: str
    seated: bool
    active: bool
    locked: bool


def facts(path: str, properties: Mapping[str, Any]) -> SessionFacts | None:
    """What a session's properties (``org.freedesktop.login1.Session``) say; None when no person sits behind it."""
    if properties.get("Class", "user") not in _PERSONS or properties.get("State") == "closing":
        return None
    seat = properties.get("Seat") or ("",)
    return SessionFacts(
        path, bool(seat[0]), bool(properties.get("Active")), bool(properties.get("LockedHint"))
    )


class Presence:
    """What is known of this user's sessions."""

    def __init__(self) -> None:
        self._sessions: dict[str, SessionFacts] = {}
        self._told_to_lock: set[str] = set()
        self._seen = False
        self._leaving = False

    def now(self, sessions: Iterable[SessionFacts]) -> None:
        """Take what logind says now."""
        before, self._sessions = self._sessions, {session.path: session for session in sessions}
        self._seen = self._seen or bool(self._sessions)
        for path, session in self._sessions.items():
            old = before.get(path)
            unlocked = old is not None and old.locked and not session.locked
            back = old is not None and session.active and not old.active
            if unlocked or back:
                self._told_to_lock.discard(path)
        self._told_to_lock &= self._sessions.keys()

    def lock(self, path: str) -> None:
        """A session was told to lock its screen."""
        if path in self._sessions:
            self._told_to_lock.add(path)

    def unlock(self, path: str) -> None:
        """A session was told to unlock it."""
        self._told_to_lock.discard(path)

    def leave(self, leaving: bool) -> None:
        """The computer is going to sleep or down, or isn't any more."""
        self._leaving = leaving

    def person_asks(self) -> None:
        """The person uses Inlay: screens of which nothing but the order to lock is known are open."""
        self._told_to_lock.clear()

    @property
    def absence(self) -> str | None:
        """Code of the cause for which nobody is there; None: somebody is, or it can't be told."""
        if self._leaving:
            return "session_leaving"
        counting = [session for session in self._sessions.values() if session.seated]
        counting = counting or list(self._sessions.values())
        if not counting:
            return "session_ended" if self._seen else None
        front = [session for session in counting if session.active]
        if not front:
            return "session_inactive"
        if any(not session.locked and session.path not in self._told_to_lock for session in front):
            return None
        return "session_locked"

    @property
    def blind(self) -> str | None:
        """Why it can't be told whether somebody is there; None when it can."""
        return None if self._seen else "knows of no log-in of yours"
