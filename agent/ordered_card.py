"""How an order gets at the physical card that it is about: the window says what is seen until that card is there.

Nothing is written to a card here, and no card is taken for another: with two that fit the person picks, and what they
see follows cards as they come and go (``docs/adr/0022-when-the-person-picks-the-reader.md``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agent import card_map
from agent.card_search import CardSearch
from agent.card_session import CardSession
from agent.given_up import give_up
from agent.pcsc import scard
from agent.pcsc.connection import CardConnection
from agent.pcsc.deadline import look_at
from agent.pcsc.piv_select import FEATURES
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
        count: Callable[[str], int | None] | None = scard.event_count,
    ) -> None:
        """Use the agent's one watch.

        Args:
            watch: it.
            machine: the administrator's folder, where the card map may be added to.
            own: whether this agent's own virtual card is in a reader, by its name: such a reader doesn't count.
            look: looks at the card in a reader; blocks.
            connect: connects to the card in a reader; blocks.
            count: PC/SC's count of a reader's events, which tells whether it is still the card that was looked at;
                None: where cards stay in their readers.
        """
        self._watch, self._machine, self._own = watch, machine, own
        self._look, self._connect, self._count = look, connect, count

    def session(self, found: FoundCard) -> CardSession:
        """The card that was found, to be opened; ``pcsc_card_removed`` when another one may be in its place."""
        return CardSession(lambda: self._connect_to(found))

    def _connect_to(self, found: FoundCard) -> CardConnection:
        connection = self._connect(found.reader)
        try:
            # asked behind the connection: a card that went later takes the connection with it
            same = self._count is None or self._count(found.reader) == found.count
        except BaseException:
            connection.close()
            raise
        if not same:
            connection.close()
            raise InlayError("pcsc_card_removed")
        return connection

    async def search(self, wanted: Criterion, features: frozenset[str] = FEATURES) -> CardSearch:
        """Begin to look for a card, and ask each for these features; close the search in the end."""
        cards = await asyncio.to_thread(card_map.load, self._machine)
        return CardSearch(
            self._watch,
            cards,
            wanted,
            counts=lambda reader: not self._own(reader),
            look=self._look,
            features=features,
        )

    async def wait(
        self,
        window: WindowSession,
        wanted: Criterion,
        label: str,
        show: WhatIsSeen,
        *,
        back: bool = False,
        ask: bool = False,
        pick: bool = False,
        features: frozenset[str] = FEATURES,
    ) -> FoundCard:
        """Wait until the card is there.

        Args:
            window: where the person picks when several fit.
            wanted: which card it has to be.
            label: what the person calls it.
            show: told what the window has to say, whenever it is something else.
            back: it was there already.
            ask: the person says which it is even when only one fits, unless what is wanted names that one.
            pick: as ``ask``, as soon as one fits: until then the window says what is seen.
            features: what cards are asked for beside what tells them apart.
        """
        search = await self.search(wanted, features)
        try:
            return await _found(search, window, label, show, back=back, ask=ask, pick=pick)
        finally:
            await search.close()


async def _found(
    search: CardSearch,
    window: WindowSession,
    label: str,
    show: WhatIsSeen,
    *,
    back: bool,
    ask: bool,
    pick: bool,
) -> FoundCard:
    sight = await search.next()
    while True:
        candidates = sight.candidates
        ask = ask or (pick and bool(candidates) and not candidates[0].named)
        if len(candidates) == 1 and (candidates[0].named or not ask):
            return candidates[0]
        if len(candidates) > 1 or ask:
            ask = True  # pulling one card out doesn't say that the other is meant: the person says it
            chosen, sight = await _choose(search, window, sight, label, back=back)
            if chosen is not None:
                return replace(chosen, picked=True)
        else:
            await show(what_is_seen(sight, label, back=back))
            sight = await search.next()


async def _choose(
    search: CardSearch, window: WindowSession, sight: Sight, label: str, *, back: bool
) -> tuple[FoundCard | None, Sight]:
    """Let the person pick a card; as soon as there is something else to see, that."""
    usable = sight.candidates
    note = f"Pick the card for “{label}”." if usable else what_is_seen(sight, label, back=back)
    asking = asyncio.ensure_future(window.choose(_TITLE, choices(sight), note))
    looking = asyncio.ensure_future(search.next())
    try:
        await asyncio.wait({asking, looking}, return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            return None, looking.result()
        picked = asking.result()
        # an answer to an earlier list may still have been on its way: it names a card that is there, or none
        return next((card for card in usable if card.place == picked), None), sight
    finally:
        for task in (asking, looking):
            await give_up(task)


def choices(sight: Sight) -> list[CardChoice]:
    """All readers, and what is in each: a card to pick, one that can't be used and why, or none."""
    cards, usable = {card.reader: card for card in sight.cards}, sight.candidates
    rows = []
    for reader in sight.readers:
        card = cards.get(reader)
        if card is None:
            rows.append(CardChoice(f"- {reader}", reader, "No card is in it.", usable=False))
        elif card in usable:
            rows.append(CardChoice(card.place, reader, _name(card)))
        else:
            rows.append(CardChoice(card.place, reader, _why_not(card), usable=False))
    return rows


def _name(card: FoundCard) -> str:
    kind = "Card" if card.kind is None else card.kind.name
    if card.shown is None:
        return kind
    has, guid = card.shown.capabilities, card.shown.guid
    if has is not None and has.serial is not None:
        return f"{kind}, serial {has.serial}"
    return f"{kind}, blank" if guid is None else f"{kind}, GUID {guid[:8]}…"


def _why_not(card: FoundCard) -> str:
    if card.problem is None or card.problem.code == "card_other":
        return f"{_name(card)}: another card, which stays as it is."
    return f"{card.problem.happened} {card.problem.why}"


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
