"""What happens at one position of `tests.faults.tears_at_portal`: to the card, to the agent, or to its channel."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tests.cards.simulated import SimulatedCard
from tests.faults.tear_jobs import CUT, KILLED, TORN, Position
from tests.faults.tear_processes import RunningAgent
from tests.support.agent_parts import AgentParts
from tests.support.attack_stage import Passed, TlsProxy, message_type, payload
from tests.support.fake_windows import FakeWindow
from tests.support.simulated_readers import SimulatedReaders

TAKEN: Final = "taken out"
"""The card is torn out for good, and the person gives it up."""
EXCHANGED: Final = "exchanged"
"""The card that was made before is put in its place; the right one only when the window has said something to it."""
_OUT: Final = (TORN, TAKEN, EXCHANGED)
BETWEEN: Final = 0
"""In the place of an APDU's number: while the agent asks the portal about the card that was made before."""
_SECONDS: Final = 60.0


class PortalDisturbance:
    """Told of every APDU, and of the agent's questions about cards: disturbs at one position, once.

    Attributes:
        agent: the one that is killed, where that is the mode.
        core: the one whose window the person closes or looks at, where it is part of this process.
        done: the position was reached.
        last: the number of the last APDU.
    """

    def __init__(
        self,
        proxy: TlsProxy,
        readers: SimulatedReaders,
        card: SimulatedCard,
        at: Position | None = None,
        made: SimulatedCard | None = None,
    ) -> None:
        """Put the card in; or the one that was ``made`` before it, until the portal has said which one that is."""
        self._proxy, self._readers, self._card, self._at, self._made = proxy, readers, card, at, made
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.agent: RunningAgent | None = None
        self.core: AgentParts | None = None
        self.done = False
        self.last = 0
        readers.put(card if made is None else made)
        readers.tear, readers.answered, readers.torn = self._comes, self._answered, self._torn
        proxy.to_portal, proxy.to_agent = self._asked, self._told

    async def end(self) -> None:
        """Nothing is disturbed any more."""
        self._proxy.to_portal = self._proxy.to_agent = _unchanged
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_here(self, apdu: int, side: str) -> bool:
        at = self._at
        return at is not None and not self.done and (apdu, side) == (at.apdu, at.side)

    @property
    def _mode(self) -> str:
        return "" if self._at is None else self._at.mode

    # --- at an APDU, in the thread of whoever serves the card

    def _comes(self, number: int, _apdu: bytes) -> str | None:
        self.last = number
        for side in ("before", "after"):
            if self._is_here(number, side) and self._mode in _OUT:
                self.done = True
                return side
        if self._is_here(number, "before"):
            self._strike()
        return None

    def _answered(self, number: int) -> None:
        if self._is_here(number, "after"):
            self._strike()

    def _strike(self) -> None:
        self.done = True
        if self._mode == CUT:
            asyncio.run_coroutine_threadsafe(self._proxy.cut(), self._loop).result(_SECONDS)
            return
        assert self.agent is not None
        self.agent.kill()
        raise ConnectionAbortedError

    def _torn(self, reader: str) -> None:
        if self._mode == TORN:
            self._readers.put(self._card, reader)
        elif self._mode == EXCHANGED:
            assert self._made is not None
            self._readers.put(self._made, reader)
            self._loop.call_soon_threadsafe(self._begin, self._put_right(self._window()))
        else:
            self._loop.call_soon_threadsafe(self._begin, self._window().close_by_person())

    def _window(self) -> FakeWindow:
        assert self.core is not None
        return self.core.windows.opened[-1]

    async def _put_right(self, window: FakeWindow) -> None:
        """The person looks at the window, and puts in what it asks for."""
        said = len(window.texts)
        async with window.changed:
            await window.changed.wait_for(lambda: len(window.texts) > said)
        self._readers.take()
        self._readers.put(self._card)

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

    # --- at a question about the card that was made before, in the event loop

    async def _asked(self, frame: dict[str, Any]) -> Passed:
        if message_type(frame) == "identity_question" and self._is_here(BETWEEN, "before"):
            return self._between(frame)
        return Passed([frame])

    async def _told(self, frame: dict[str, Any]) -> Passed:
        if message_type(frame) != "identity_answer":
            return Passed([frame])
        if payload(frame["params"]["message"])["body"].get("label") is None:
            return Passed([frame])
        passed = self._between(frame) if self._is_here(BETWEEN, "after") else Passed([frame])
        if self._mode != TAKEN or not self.done:
            self._put_next()
        return passed

    def _between(self, frame: dict[str, Any]) -> Passed:
        self.done = True
        if self._mode in (CUT, KILLED):
            if self._mode == CUT:
                self._begin(self._proxy.cut())
            else:
                assert self.agent is not None
                self.agent.kill()
            return Passed([])
        if self._mode == TORN:
            self._readers.put(self._readers.take())
        elif self._mode == EXCHANGED:
            self._put_next()
        else:
            self._begin(self._window().close_by_person())
        return Passed([frame])

    def _put_next(self) -> None:
        if self._made is not None and self._readers.card_in("One") is self._made:
            self._readers.take()
            self._readers.put(self._card)


async def _unchanged(frame: dict[str, Any]) -> Passed:
    return Passed([frame])
