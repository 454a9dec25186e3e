"""The seams to the person's session and to the system's key store: whether somebody is there, and what changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from protocol.errors import InlayError


class SessionWatching(Protocol):
    """Tells whether the person is at the session that the agent belongs to."""

    @property
    def blind(self) -> InlayError | None:
        """Why that can't be told here, ``session_unwatched``; None when it can."""

    async def start(self, changed: Callable[[InlayError | None], None]) -> None:
        """Begin.

        Args:
            changed: told before this returns, and at each change, when nobody is there and why
                (``session_locked`` …), and None when somebody is again.
        """

    async def person_asks(self) -> InlayError | None:
        """The person uses Inlay right now, which says that they are there where nothing else can.

        Waits for the end of `start`.

        Returns:
            Why nobody is taken to be there all the same; None: somebody is.
        """

    async def close(self) -> None:
        """End; harmless when it never began."""


class KeyStoreWatching(Protocol):
    """Tells when something may have changed at the system's key store."""

    async def start(self, changed: Callable[[], None]) -> bool:
        """Begin; harmless when it runs.

        Returns:
            Whether it began now: what happened before was told to nobody.
        """

    async def close(self) -> None:
        """End; harmless when it never began."""
