"""Codes that a page shows, kept until they are too old: a reload shows the same code again.

The store keeps hashes only, and a new code ends the one before, so without this a page that reloads itself would
take away the code that its person has just clicked or is typing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from portal.services import Services
    from portal.views import CodeView, Session

_LEFT: Final = 15
"""Seconds that a link's code must have left to be shown again."""
_MOST: Final = 10_000


class CodeShelf:
    """The code of each process, and the session that it was made for, in memory.

    Args:
        services: makes the codes.
        clock: seconds since 1970.
    """

    def __init__(self, services: Services, clock: Callable[[], float] = time.time) -> None:
        self._services = services
        self._clock = clock
        self._codes: dict[str, tuple[str, CodeView]] = {}

    async def current(self, session: Session, process_id: str) -> CodeView:
        """The code shown before if it is still good, else a fresh one; errors as ``Services.new_code``."""
        owner, code = self._codes.get(process_id, ("", None))
        if code is not None and owner == session.id and code.link_expires_at - _LEFT > self._clock():
            return code
        return await self.fresh(session, process_id)

    async def fresh(self, session: Session, process_id: str) -> CodeView:
        """A fresh code; errors as ``Services.new_code``."""
        code = await self._services.new_code(session, process_id)
        self._drop_old()
        self._codes[process_id] = (session.id, code)
        return code

    def forget(self, process_id: str) -> None:
        """Drop a process's code: it ended, or its order was claimed."""
        self._codes.pop(process_id, None)

    def _drop_old(self) -> None:
        now = self._clock()
        self._codes = {key: kept for key, kept in self._codes.items() if kept[1].typed_expires_at > now}
        while len(self._codes) >= _MOST:
            self._codes.pop(next(iter(self._codes)))
