"""A module that hangs (`tests.support.token_readers`) says so, and what waits for it waits no longer.

Whoever waits for a module that hangs waits as long as the agent has patience, which is longer than a test has. A
shorter deadline for all calls instead would end those, too, that a slow machine needs longer for.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from agent.pcsc import pkcs11_process
from tests.support.token_readers import TokenReaders

_ENOUGH: Final = 4096


@asynccontextmanager
async def no_patience(readers: TokenReaders, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """As long as this lasts the time of a call is over as soon as the readers' module hangs in it.

    Args:
        readers: whose module.
        patch: replaces what waits for modules of this process.
    """
    hangs: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
    receive = pkcs11_process._receive
    # for writing, too: else it would be at its end whenever a module's process ends
    pipe = os.open(readers.says_that_it_hangs(), os.O_RDWR | os.O_NONBLOCK)

    def said() -> None:
        for process in os.read(pipe, _ENOUGH).split():
            hangs[int(process)].set()

    async def impatient(child: asyncio.subprocess.Process) -> dict[str, Any]:
        answer, hung = asyncio.ensure_future(receive(child)), asyncio.ensure_future(hangs[child.pid].wait())
        try:
            await asyncio.wait({answer, hung}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return await answer
            raise TimeoutError
        finally:
            answer.cancel()
            hung.cancel()

    patch.setattr(pkcs11_process, "_receive", impatient)
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe, said)
    try:
        yield
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)
