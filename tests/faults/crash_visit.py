"""One order, from the agent's side: goes on after every disturbance as a real agent does, or never comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import ClientError
from cryptography import x509

from protocol.errors import InlayError
from protocol.messages import Certificates, ErrorData, Finished, OrderState, Proceed, Receipt, Undo, Undone

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.messages import Message
    from tests.support.software_agent import SoftwareAgent, SoftwareCard

FINISHED, UNDONE, GONE = "finished", "undone", "gone"
_DISTURBED = (ConnectionError, TimeoutError, ClientError, AssertionError)
_TRIES: Final = 8
_HEAR_SECONDS: Final = 3.0


def proved_by(card: SoftwareCard) -> set[bytes]:
    """Certificates on a card whose keys are on it, too."""
    return {
        der
        for slot, der in card.certificates.items()
        if x509.load_der_x509_certificate(der).public_key() == card.keys[slot].public_key()
    }


class Visit:
    """An agent with a code.

    Args:
        agent: with a fresh card, or a copy of the one that is worked on; its device is known to the account.
        code: of the order.
        again: starts the portal again if it was killed.
        leaves: whether the agent never comes back after the first disturbance.
    """

    def __init__(
        self, agent: SoftwareAgent, code: str, again: Callable[[], None], *, leaves: bool = False
    ) -> None:
        self.agent = agent
        self._code = code
        self._again = again
        self._leaves = leaves
        self._said: set[str] = set()
        self._receipt: Receipt | None = None
        self._heard: set[str] = set()

    async def run(self) -> str:
        """Carry the order as far as it goes: ``FINISHED``, ``UNDONE`` or ``GONE``.

        Raises:
            TimeoutError: it came to no end.
        """
        for _ in range(_TRIES):
            try:
                return await self._go_on()
            except InlayError as error:
                if self.agent.order is None and error.code != "internal":
                    return UNDONE  # the code is worth nothing any more
            except _DISTURBED:
                pass
            if self._leaves:
                await self.agent.close()
                return GONE
            await self.agent.close()
            await asyncio.to_thread(self._again)
        raise TimeoutError

    async def _go_on(self) -> str:
        agent = self.agent
        await agent.connect()
        if agent.order is None:
            await agent.claim(self._code)
        if agent.order is not None and self._said:
            result = await agent.resume()
            if result.state in (OrderState.UNDOING, OrderState.UNDONE):
                return await self._undo(result.state)
            if result.state is OrderState.FINISHED:
                return FINISHED
        await self._say("consent", agent.consent)
        await self._until("proceed", Proceed)
        if "undo" in self._heard:
            return await self._undo(OrderState.UNDOING)
        assert agent.order is not None
        requests = agent.card.requests(agent.order)
        await self._say("requests", lambda: agent.say(requests))
        answer = await self._until("certificates", Certificates)
        if isinstance(answer, Certificates):
            self._receipt = agent.receipt(answer)
        if self._receipt is not None:
            receipt = self._receipt
            await self._say("receipt", lambda: agent.say(receipt))
            await self._until("finished", Finished)
        return await self._undo(OrderState.UNDOING) if "undo" in self._heard else FINISHED

    async def _say(self, what: str, say: Callable[[], object]) -> None:
        """Say something once; a connection that breaks meanwhile has it said again by ``resume``."""
        if what in self._said or "undo" in self._heard:
            return
        self._said.add(what)
        await say()  # type: ignore[misc] # a coroutine function

    async def _until(self, what: str, kind: type[Message]) -> Message | None:
        if what in self._heard or "undo" in self._heard:
            return None
        message = await self._hear()
        self._heard.add("undo" if isinstance(message, Undo) else what)
        assert isinstance(message, Undo | kind), message
        return message

    async def _hear(self) -> Message:
        """The next message, or the end of the connection."""
        hearing = asyncio.create_task(self.agent.inbox.get())
        ended = asyncio.create_task(self.agent.closed(_HEAR_SECONDS))
        done, _ = await asyncio.wait([hearing, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)
        if hearing in done:
            return hearing.result()
        hearing.cancel()
        raise ConnectionError

    async def _undo(self, state: OrderState) -> str:
        """What was made is taken away, and the portal told; should that be lost, its time to resume ends."""
        if state is OrderState.UNDOING and "undone" not in self._said:
            self._said.add("undone")
            try:
                await self.agent.say(Undone(error=ErrorData(error="order_undone", fields={})))
            except (InlayError, *_DISTURBED):
                return UNDONE
        return UNDONE
