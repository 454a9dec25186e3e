"""How an order gets at the physical card that it is about: the window says what is seen until that card is there.

Nothing is written to a card here, and no card is taken for another: with two that fit the person picks, and what they
see follows cards as they come and go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from agent import card_map
from agent.card_search import CardSearch
from agent.card_session import CardSession
from agent.pcsc import scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.deadline import look_at
from agent.ports import CardChoice
from protocol.errors import InlayError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.card_search import Criterion, FoundCard, Look, Sight
    from agent.ports import WindowSession
    from agent.reader_watch import ReaderWatch

_TITLE: Final = "Which card is it?"
WhatIsSeen = Callable[[str], Awaitable[None]]
"""Shows in the window what is seen."""


def _connect(reader: str) -> CardConnection:
    return CardConnection(scard.connect(reader), reader)


class CardReaders:
    """The machine's readers, as orders use them."""

    def __init__(
        self,
        watch: ReaderWatch,
        machine: Path,
        own: Callable[[str], bool] = lambda _reader: False,
        *,
        look: Look = look_at,
        connect: Callable[[str], CardConnection] = _connect,
    ) -> None:
        """Use the agent's one watch.

        Args:
            watch: it.
            machine: the administrator's folder, where the card map may be added to.
            own: whether this agent's own virtual card is in a reader, by its name: such a reader doesn't count.
            look: looks at the card in a reader; blocks.
            connect: connects to the card in a reader; blocks.
        """
        self._watch, self._machine, self._own = watch, machine, own
        self._look, self._connect = look, connect

    def session(self, reader: str) -> CardSession:
        """The card in a reader, to be opened."""
        return CardSession(lambda: self._connect(reader))

    async def search(self, wanted: Criterion) -> CardSearch:
        """Begin to look for a card; close the search in the end."""
        cards = await asyncio.to_thread(card_map.load, self._machine)
        return CardSearch(
            self._watch, cards, wanted, counts=lambda reader: not self._own(reader), look=self._look
        )

    async def wait(
        self, window: WindowSession, wanted: Criterion, label: str, show: WhatIsSeen, *, back: bool = False
    ) -> FoundCard:
        """Wait until the card is there.

        Args:
            window: where the person picks when several fit.
            wanted: which card it has to be.
            label: what the person calls it.
            show: told what the window has to say, whenever it is something else.
            back: it was there already.
        """
        search = await self.search(wanted)
        try:
            return await _found(search, window, label, show, back=back)
        finally:
            await search.close()


async def _found(
    search: CardSearch, window: WindowSession, label: str, show: WhatIsSeen, *, back: bool
) -> FoundCard:
    sight = await search.next()
    while True:
        match sight.fitting:
            case [only]:
                return only
            case []:
                await show(what_is_seen(sight, label, back=back))
                sight = await search.next()
            case several:
                chosen, sight = await _choose(search, window, several, sight)
                if chosen is not None:
                    return chosen


async def _choose(
    search: CardSearch, window: WindowSession, several: tuple[FoundCard, ...], sight: Sight
) -> tuple[FoundCard | None, Sight]:
    """Let the person pick one of several; as soon as there is something else to see, that."""
    choices = [CardChoice(card.reader, _name(card), f"In the reader “{card.reader}”") for card in several]
    asking = asyncio.ensure_future(window.choose(_TITLE, choices))
    looking = asyncio.ensure_future(search.next())
    try:
        await asyncio.wait({asking, looking}, return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            return None, looking.result()
        picked = asking.result()
        # an answer to an earlier question may still have been on its way
        return next((card for card in several if card.reader == picked), None), sight
    finally:
        for task in (asking, looking):
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def _name(card: FoundCard) -> str:
    has = None if card.shown is None else card.shown.capabilities
    kind = "Card" if card.kind is None else card.kind.name
    return kind if has is None or has.serial is None else f"{kind}, serial {has.serial}"


def what_is_seen(sight: Sight, label: str, *, back: bool = False) -> str:
    """What the window says of what there is to see, and what the person can do."""
    if sight.problem is not None:
        error = InlayError(sight.problem)
        return f"{error.happened} {error.why} {error.next_step}"
    if not sight.readers:
        return "There is no card reader. Connect one."
    if not sight.cards:
        return f"Put the card “{label}” {'back ' if back else ''}in the reader."
    return " ".join(_problem(card, label) for card in sight.cards)


def _problem(card: FoundCard, label: str) -> str:
    if card.problem is None:
        return ""
    if card.problem.code == "card_other":
        return f"The card in the reader “{card.reader}” is another one, and stays as it is. Put in “{label}”."
    return f"“{card.reader}”: {card.problem.happened} {card.problem.why} {card.problem.next_step}"
