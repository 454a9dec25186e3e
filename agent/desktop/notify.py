"""Short messages outside any window: at most three a minute, since links can come from any page.

They are for what is refused before an order is verified, where no window may be opened yet.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable

from agent.desktop.display_text import clean
from agent.ports import UserEnvironment
from protocol.errors import InlayError

MAX_NOTIFICATIONS = 3
PERIOD_SECONDS = 60.0
TOOL_SECONDS = 5.0

NOTIFY_SEND = "/usr/bin/notify-send"

log = logging.getLogger(__name__)


class DesktopNotifier:
    """Shows notifications by the desktop's own tool (`agent.ports.Notifier`)."""

    def __init__(self, *, tool: str = NOTIFY_SEND, clock: Callable[[], float] = time.monotonic) -> None:
        self._tool = tool
        self._clock = clock
        self._shown: deque[float] = deque(maxlen=MAX_NOTIFICATIONS)

    async def notify(self, error: InlayError, environment: UserEnvironment) -> bool:
        """See `agent.ports.Notifier.notify`; the refusal goes into the log in any case."""
        log.warning("refused: %s", error.code)
        if not environment.variables.get("DBUS_SESSION_BUS_ADDRESS") or not os.access(self._tool, os.X_OK):
            return False
        now = self._clock()
        if len(self._shown) == MAX_NOTIFICATIONS and now - self._shown[0] < PERIOD_SECONDS:
            return False
        self._shown.append(now)
        return await self._run(error, environment)

    async def _run(self, error: InlayError, environment: UserEnvironment) -> bool:
        text = f"{clean(error.why)} {clean(error.next_step)}".replace("&", "&amp;").replace("<", "&lt;")
        command = [self._tool, "--app-name=Inlay", "--icon=inlay", "--", clean(error.happened), text]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environment.variables),
        )
        try:
            return await asyncio.wait_for(process.wait(), TOOL_SECONDS) == 0
        except TimeoutError:
            process.kill()
            await process.wait()
            return False
