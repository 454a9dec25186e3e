"""A physical card for the agent's asynchronous core: one worker thread for each card, kept alive while it waits.

PC/SC calls block, so all of a card's run in one thread of its own. While the portal is awaited something harmless is
said to the card every two seconds; between the card's question and its answer nothing is, and that step is bounded to
three seconds. It is begun again once the late answer has come: worth nothing to the card by then, it says that the
portal can be reached again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from agent.card_thread import CardThread
from agent.pcsc import piv_authenticate
from agent.pcsc.connection import CardConnection
from agent.unbroken import for_a_person
from protocol.errors import InlayError

if TYPE_CHECKING:
    from types import TracebackType

    from agent.pcsc.piv_authenticate import Proof, Question
    from agent.pcsc.piv_names import ManagementAlgorithm

T = TypeVar("T")

KEEP_ALIVE_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 3.0
"""How long the card may wait for the answer to its question."""
ANSWER_TRIES: Final = 3


async def say_nothing() -> None:
    """Nobody is told that an answer is late."""


class CardSession:
    """One card, from connection to reset. Close it in the end, whatever happened."""

    def __init__(self, connect: Callable[[], CardConnection]) -> None:
        """Prepare; `open` connects.

        Args:
            connect: called in the card's thread.
        """
        self._connect = connect
        self._thread = CardThread()
        self._card: CardConnection | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            InlayError: ``pcsc_…``.
        """
        self._card = await self._thread.run(self._connect)

    async def run(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Do something with the card, in its thread: ``run(piv_pin.verify, pin)``.

        When the caller is cancelled a command that has begun is carried to its end first, if it has one (`CardThread`).

        Raises:
            InlayError: what the work raises; ``pcsc_card_reset``: what it has found out doesn't count, because the card
                had lost its power without anybody saying so.
        """
        card = self._connected()
        return await self._thread.run(lambda: _counted(card, lambda: work(card, *arguments, **named)))

    async def awaiting(self, answer: Awaitable[T]) -> T:
        """Wait for the portal while the card is kept alive.

        Raises:
            InlayError: ``pcsc_…``: the card went while it waited.
        """
        task = asyncio.ensure_future(answer)
        try:
            while not (await asyncio.wait({task}, timeout=KEEP_ALIVE_SECONDS))[0]:
                await self.run(CardConnection.keep_alive)
            return await task
        finally:
            task.cancel()

    async def authenticate(
        self,
        algorithm: ManagementAlgorithm,
        answer: Callable[[Question], Awaitable[Proof]],
        *,
        mutual: bool = False,
        late: Callable[[], Awaitable[None]] = say_nothing,
    ) -> bytes:
        """Have the holder of the management key prove it to the card.

        Args:
            algorithm: the key's.
            answer: asks the holder; an answer that is late is waited for all the same, and then the card asks anew.
            mutual: the card proves that it has the key, too.
            late: called when an answer is late, before it is waited for.

        Returns:
            By what it has proved it; nothing where it didn't have to.

        Raises:
            InlayError: ``card_management_slow`` after three late answers; ``card_management_wrong``,
                ``card_algorithm_missing``, ``pcsc_…``; what ``answer`` raises.
        """
        for _ in range(ANSWER_TRIES):
            question = await self.run(piv_authenticate.ask, algorithm, mutual=mutual)
            coming = asyncio.ensure_future(answer(question))
            try:
                if (await asyncio.wait({coming}, timeout=ANSWER_SECONDS))[0]:
                    return await self.run(piv_authenticate.prove, question, await coming)
                with for_a_person():  # or for a portal, which may take as long
                    await late()
                    await self.awaiting(coming)
            finally:
                coming.cancel()
        raise InlayError("card_management_slow", seconds=int(ANSWER_SECONDS), tries=ANSWER_TRIES)

    async def close(self) -> None:
        """Let the card go, reset if anything was proved to it; harmless when it has gone."""
        card, self._card = self._card, None
        try:
            if card is not None:
                await self._thread.last(card.close)
        finally:
            self._thread.end()  # also where who closes it is cancelled meanwhile

    def _connected(self) -> CardConnection:
        if self._card is None:
            raise InlayError("pcsc_card_removed")
        return self._card

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _counted(card: CardConnection, work: Callable[[], T]) -> T:
    """Do something with a card; what comes of it counts when the application was there all the time."""
    try:
        result = work()
    except InlayError as error:
        if not error.code.startswith("pcsc_"):
            card.confirm()
        raise
    card.confirm()
    return result
