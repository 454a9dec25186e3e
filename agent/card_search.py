"""Waits for the card that something is about, says what it sees meanwhile, and never takes another for it.

Cards are looked at when they come, and not again until they went or another came. One that another program keeps for
itself is looked at again when the watch tells that it is free; where the watch never told that it was kept, after
growing pauses. Nothing is written to a card here.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from agent.pcsc.deadline import look_at
from agent.pcsc.piv_select import FEATURES
from agent.pcsc.reader_events import ReaderLook
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.card_map import CardKind, CardMap
    from agent.pcsc.look import Evidence
    from agent.reader_watch import ReaderWatch, Seen, Watcher
    from protocol.messages import CardIdentity

LOOK_SECONDS: Final = 8.0
"""How long a card, or another program's transaction with it, may take until it is said to be in use."""

AGAIN_SECONDS, LONGEST_AGAIN_SECONDS = 2.0, 32.0
"""When a card that can't be shared, and that no watch has shown as kept, is looked at again; doubled each time."""
_Told = tuple[object, ...]
_Mark = tuple[object, ...]
"""What tells that a card is still the one that was looked at."""


class CardMark(NamedTuple):
    """What a card tells of itself.

    Attributes:
        guid: of its CHUID, 32 hexadecimal digits; None: it has none.
        serial: what it says to GET SERIAL, decimal; None: it tells none.
    """

    guid: str | None
    serial: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which card it has to be: everything that is named has to be so.

    Attributes:
        guid: of its CHUID, 32 hexadecimal digits.
        serial: what GET SERIAL says.
        driver: who speaks to it.
    """

    guid: str | None = None
    serial: int | None = None
    driver: str | None = None

    def is_met_by(self, shown: Evidence, kind: CardKind) -> bool:
        """Whether a card is the one."""
        has = shown.capabilities
        return (
            (self.guid is None or shown.guid == self.guid)
            and (self.serial is None or (has is not None and has.serial == self.serial))
            and (self.driver is None or kind.driver == self.driver)
        )

    def is_named_by(self, shown: Evidence) -> bool:
        """Whether a card that meets it can't be another one."""
        return self.guid is not None or self.serial is not None

    def why_not(self, shown: Evidence) -> InlayError:
        """Why a card that doesn't meet it is not the one."""
        return InlayError("card_other")


@dataclass(frozen=True, slots=True)
class WantedIdentity:
    """The card of an order that may give it its GUID: the one that has it, or the one that is to get it.

    Attributes:
        guid: the order's, 32 hexadecimal digits.
        identity: which card is to get it; None: it has it.
        driver: who speaks to it.
        others: cards that the portal has said are others of its own, with their names.
    """

    guid: str
    identity: CardIdentity | None
    driver: str
    others: Mapping[CardMark, str] = field(default_factory=dict, hash=False)

    def is_met_by(self, shown: Evidence, kind: CardKind) -> bool:
        """Whether a card is the one."""
        if mark_of(shown) in self.others:
            return False
        return kind.driver == self.driver and (shown.guid == self.guid or self._is_to_get_it(shown))

    def why_not(self, shown: Evidence) -> InlayError:
        """Why a card that doesn't meet it is not the one."""
        label = self.others.get(mark_of(shown))
        return InlayError("card_other") if label is None else InlayError("card_in_use", label=label)

    def is_named_by(self, shown: Evidence) -> bool:
        """Whether a card that meets it can't be another one: by its GUID, or by the serial number printed on it."""
        wanted = self.identity
        if shown.guid == self.guid or wanted is None:
            return True
        by_serial = wanted.serial is not None and _serial(shown) == wanted.serial
        return by_serial or (wanted.previous is not None and shown.guid == wanted.previous)

    def _is_to_get_it(self, shown: Evidence) -> bool:
        wanted = self.identity
        if wanted is None:
            return False
        if wanted.previous is not None and shown.guid == wanted.previous:
            return True  # whatever its serial number is: a reset may have given it another one
        serial = _serial(shown)
        if serial is not None and wanted.serial is not None:
            return serial == wanted.serial  # it is printed on the card: nothing else tells more
        # where a person reads the number that is printed on it, or the portal is asked, it may be any card that doesn't
        # say otherwise
        anyone = wanted.printed is not None or wanted.unnamed
        return anyone or (wanted.blank and shown.guid is None)


@dataclass(frozen=True, slots=True)
class WantedAgain:
    """The card that an order has had in hand: no other, even one that would have done in the beginning.

    Attributes:
        guids: which of them its CHUID may have by now; None among them: it may have no CHUID yet.
        serial: what it said to GET SERIAL; None: it told none.
        driver: who speaks to it.
        any_guid: it may have been reset, and got another GUID by that or none: its serial number alone tells.
    """

    guids: frozenset[str | None]
    serial: int | None
    driver: str
    any_guid: bool = False

    def is_met_by(self, shown: Evidence, kind: CardKind) -> bool:
        """Whether a card is the one."""
        has = shown.capabilities
        return (
            kind.driver == self.driver
            and (self.any_guid or shown.guid in self.guids)
            and (self.serial is None or (has is not None and has.serial == self.serial))
        )

    def is_named_by(self, shown: Evidence) -> bool:
        """Whether a card that meets it can't be another one."""
        return self.serial is not None or (shown.guid is not None and not self.any_guid)

    def why_not(self, shown: Evidence) -> InlayError:
        """Why a card that doesn't meet it is not the one."""
        return InlayError("card_other")


class Criterion(Protocol):
    """Which card it has to be."""

    def why_not(self, shown: Evidence) -> InlayError:
        """Why a card that doesn't meet it is not the one."""

    def is_met_by(self, shown: Evidence, kind: CardKind) -> bool:
        """Whether a card is the one."""

    def is_named_by(self, shown: Evidence) -> bool:
        """Whether a card that meets it can't be another one, so that nobody has to say which."""


def mark_of(shown: Evidence) -> CardMark:
    """What a card tells of itself, for the portal to say whether it knows it."""
    return CardMark(shown.guid, _serial(shown))


def _serial(shown: Evidence) -> str | None:
    has = shown.capabilities
    return None if has is None or has.serial is None else str(has.serial)


@dataclass(frozen=True, slots=True)
class FoundCard:
    """A card that was looked at.

    Attributes:
        reader: where it is.
        shown: what it showed; None when it couldn't be looked at.
        kind: which entry of the card map it is of; None when it is of none.
        problem: why it isn't the one: ``card_other``, ``card_not_supported``, ``card_without_application``, ``pcsc_…``;
            None when it is.
        named: what is wanted names this very card.
        inserted: how often a card had been put into the reader when this one was, since somebody watches.
        count: PC/SC's count of the reader's events then; None: not known.
        picked: a person has said that it is the one.
    """

    reader: str
    shown: Evidence | None
    kind: CardKind | None
    problem: InlayError | None
    named: bool = False
    inserted: int = 0
    count: int | None = None
    picked: bool = False

    @property
    def place(self) -> str:
        """Stands for this card until it is taken out, and never for another."""
        return f"{self.inserted}.{self.count} {self.reader}"

    @property
    def told(self) -> tuple[object, ...]:
        """What is told of it: two findings that tell the same are the same."""
        problem = None if self.problem is None else self.problem.code
        return self.reader, self.shown, self.kind, problem, self.inserted, self.count


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is to see now.

    Attributes:
        problem: code why PC/SC can't be asked; None when it can.
        readers: names of all readers that count.
        cards: the cards in them, in the readers' order.
    """

    problem: str | None
    readers: tuple[str, ...]
    cards: tuple[FoundCard, ...]

    @property
    def fitting(self) -> tuple[FoundCard, ...]:
        """The cards that are the one; with several, a person has to choose."""
        return tuple(card for card in self.cards if card.problem is None)

    @property
    def candidates(self) -> tuple[FoundCard, ...]:
        """Of those that fit the ones that are named; all of them where none is."""
        return tuple(card for card in self.fitting if card.named) or self.fitting


Look = Callable[[str, frozenset[bytes], frozenset[str]], "Evidence"]
"""Looks at the card in a reader, by these names, and asks for these features; `agent.pcsc.look.look`."""


class CardSearch:
    """One search; close it in the end."""

    def __init__(
        self,
        watch: ReaderWatch,
        cards: CardMap,
        wanted: Criterion,
        *,
        counts: Callable[[str], bool] = lambda _reader: True,
        look: Look = look_at,
        features: frozenset[str] = FEATURES,
    ) -> None:
        """Prepare.

        Args:
            watch: the agent's one watch of readers.
            cards: the card map.
            wanted: which card it has to be.
            counts: whether a reader counts, by its name: this agent's own virtual ones may not.
            look: looks at the card in a reader; blocks.
            features: what cards are asked for, beside what the card map has to know.
        """
        self._watch, self._map, self._wanted = watch, cards, wanted
        self._counts, self._look, self._features = counts, look, features | cards.features
        self._watcher: Watcher | None = None
        self._seen: Seen | None = None
        self._known: dict[str, tuple[_Mark, FoundCard]] = {}
        self._refusals = Counter[_Mark]()
        self._late = asyncio.Event()
        self._last: _Told | None = None

    async def next(self) -> Sight:
        """What there is to see: at once the first time, then as soon as it is something else."""
        while True:
            sight = await self._look_around()
            told = (sight.problem, sight.readers, tuple(card.told for card in sight.cards))
            if told != self._last:
                self._last = told
                return sight

    async def _look_around(self) -> Sight:
        watcher = self._watcher
        if watcher is None:
            watcher = self._watcher = await self._watch.watch()
        seen = await self._news(watcher)
        readers = [reader for reader in seen.look.readers if self._counts(reader.name)]
        present = [reader for reader in readers if reader.present]
        self._known = {
            name: known for name, known in self._known.items() if name in {each.name for each in present}
        }
        found = [await self._examined(reader, seen) for reader in present]
        return Sight(seen.look.problem, tuple(reader.name for reader in readers), tuple(found))

    async def wait(self, tell: Callable[[Sight], None]) -> FoundCard:
        """Wait until exactly one card is the one.

        Args:
            tell: told of everything that is seen on the way: nothing there, another card, two that fit.
        """
        while True:
            sight = await self.next()
            tell(sight)
            if len(sight.fitting) == 1:
                return sight.fitting[0]

    async def close(self) -> None:
        """Search no more; harmless when closed."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            await watcher.close()

    async def _news(self, watcher: Watcher) -> Seen:
        """Wait until readers or cards change, or a card can be looked at that couldn't before."""
        changed = asyncio.ensure_future(watcher.next())
        late = asyncio.create_task(self._late.wait())
        try:
            await asyncio.wait({changed, late}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            late.cancel()
            if not changed.done():
                changed.cancel()
        self._late.clear()
        if changed.done() and not changed.cancelled():
            self._seen = changed.result()
        if self._seen is None:
            raise RuntimeError("a card was late before any was seen")
        return self._seen

    async def _examined(self, reader: ReaderLook, seen: Seen) -> FoundCard:
        """A card as it was looked at when it came; one that was mute or held is looked at again when that changes."""
        mark = (
            reader.name,
            seen.insertions.get(reader.name),
            reader.count,
            reader.atr,
            reader.mute,
            reader.exclusive,
        )
        known = self._known.get(reader.name)
        if known is not None and known[0] == mark:
            return known[1]
        found = replace(
            await self._examine(reader, mark),
            inserted=seen.insertions.get(reader.name, 0),
            count=reader.count,
        )
        self._known[reader.name] = (mark, found)
        return found

    async def _examine(self, reader: ReaderLook, mark: _Mark) -> FoundCard:
        if reader.mute:
            return FoundCard(reader.name, None, None, InlayError("pcsc_card_mute"))
        looking = self._begin_to_look(reader.name)
        if not (await asyncio.wait({looking}, timeout=LOOK_SECONDS))[0]:
            looking.add_done_callback(lambda late: self._looked_late(reader.name, mark, late))
            return FoundCard(reader.name, None, None, InlayError("pcsc_sharing"))
        try:
            shown = looking.result()
        except InlayError as error:
            if error.code == "pcsc_sharing" and not reader.exclusive:  # else the watch tells when that ends
                asyncio.get_running_loop().call_later(self._pause(mark), self._look_anew, reader.name, mark)
            return FoundCard(reader.name, None, None, error)
        chosen = self._map.choose(shown)
        if chosen is None:
            unknown = InlayError("card_not_supported", atr=shown.atr.hex().upper())
            bare = InlayError("card_without_application")
            return FoundCard(reader.name, shown, None, bare if shown.bare else unknown)
        if not chosen[0].serial:
            shown = shown.without_serial()
        fits = self._wanted.is_met_by(shown, chosen[0])
        named = fits and self._wanted.is_named_by(shown)
        return FoundCard(reader.name, shown, chosen[0], None if fits else self._wanted.why_not(shown), named)

    def _pause(self, mark: _Mark) -> float:
        """Seconds until a card that can't be shared is looked at again."""
        self._refusals[mark] += 1
        return min(AGAIN_SECONDS * 2.0 ** (self._refusals[mark] - 1), LONGEST_AGAIN_SECONDS)

    def _begin_to_look(self, reader: str) -> asyncio.Future[Evidence]:
        """Look in a thread that nobody has to wait for: another program may keep the card for hours."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Evidence] = loop.create_future()

        def deliver(error: InlayError | None, shown: Evidence | None) -> None:
            if future.cancelled():
                return
            if shown is not None:
                future.set_result(shown)
            else:
                future.set_exception(error if error is not None else InlayError("internal"))

        def run() -> None:
            error, shown = None, None
            try:
                shown = self._look(reader, self._map.aids, self._features)
            except InlayError as found:
                error = found
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(deliver, error, shown)

        threading.Thread(target=run, name="look", daemon=True).start()
        return future

    def _looked_late(self, reader: str, mark: _Mark, late: asyncio.Future[Evidence]) -> None:
        """The card is free again: it is looked at anew, if it is still that card."""
        late.exception()  # it has been seen to: what it was told may be long past
        self._look_anew(reader, mark)

    def _look_anew(self, reader: str, mark: _Mark) -> None:
        known = self._known.get(reader)
        if known is not None and known[0] == mark:
            del self._known[reader]
            self._late.set()
