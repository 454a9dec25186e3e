"""Work that nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any


async def give_up(work: asyncio.Future[Any]) -> None:
    """End work, if it hasn't ended; return when it has.

    Something that gives it up may end it, too: what it had raised by then has been told by whoever gives it up, and
    isn't an error that nobody has heard.

    Raises:
        Exception: what it raises when it is cancelled.
    """
    if not work.done():
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    elif not work.cancelled():
        work.exception()
