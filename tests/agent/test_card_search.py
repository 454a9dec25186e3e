"""The card that is waited for: nothing there, another one, two of them, one that can't be looked at; then the one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agent import card_map, card_search
from agent.card_search import CardSearch, Sight, Wanted
from agent.pcsc.look import Evidence
from agent.pcsc.piv_select import Capabilities
from agent.pcsc.reader_events import Look, ReaderLook
from agent.reader_watch import ReaderWatch
from protocol.errors import InlayError
from tests.support.processes import wait_until

PIV = frozenset({bytes.fromhex("A000000308")})
ONE, OTHER = "11" * 16, "22" * 16


def card(guid: str, serial: int | None = None) -> Evidence:
    has = Capabilities("5.7.1", serial, True, True, True, True, True)
    return Evidence(b"\x3b\x80", PIV, has, guid, 3)


class Desk:
    """Readers and cards as a test puts them."""

    def __init__(self) -> None:
        self.tell: Callable[[Look], None] = lambda _look: None
        self.cards: dict[str, Evidence | InlayError | None] = {}
        self.counts: dict[str, int] = {}
        self.mute: set[str] = set()
        self.kept: set[str] = set()
        self.looks: list[str] = []
        self.readers = ["A", "B", "Inlay 00 00"]
        self.problem: str | None = None
        self.free = threading.Event()

    def __call__(self, tell: Callable[[Look], None]) -> Desk:
        self.tell = tell
        return self

    def start(self) -> None:
        self.show()

    def stop(self) -> None:
        pass

    def put(self, reader: str, what: Evidence | InlayError | None) -> None:
        self.cards[reader] = what
        self.counts[reader] = self.counts.get(reader, 0) + 1
        self.show()

    def take(self, reader: str) -> None:
        del self.cards[reader]
        self.counts[reader] += 1
        self.show()

    def show(self) -> None:
        rows = [
            ReaderLook(
                name,
                name in self.cards,
                b"\x3b\x80",
                self.counts.get(name, 0),
                name in self.mute,
                name in self.kept,
            )
            for name in self.readers
        ]
        self.tell(Look(self.problem, () if self.problem else tuple(rows)))

    def look(self, reader: str, aids: frozenset[bytes], _features: frozenset[str]) -> Evidence:
        """Look; a card that is None is kept by another program until `free`."""
        assert aids == PIV
        self.looks.append(reader)
        found = self.cards[reader]
        if found is None:
            self.free.wait(20)
            raise InlayError("pcsc_card_reset")
        if isinstance(found, InlayError):
            raise found
        return found


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(card_search, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(card_search, "AGAIN_SECONDS", 0.02)
    made = Desk()
    yield made
    made.free.set()


Begin = Callable[[Wanted], CardSearch]


@pytest.fixture
async def begin(desk: Desk, tmp_path: Path) -> AsyncIterator[Begin]:
    begun: list[CardSearch] = []

    def make(wanted: Wanted) -> CardSearch:
        search = CardSearch(
            ReaderWatch(desk),
            card_map.load(tmp_path),
            wanted,
            counts=lambda reader: not reader.startswith("Inlay"),
            look=desk.look,
        )
        begun.append(search)
        return search

    yield make
    for search in begun:
        await search.close()


async def sight(search: CardSearch) -> Sight:
    return await asyncio.wait_for(search.next(), 5)


async def test_what_is_seen_is_said_until_the_card_is_there(desk: Desk, begin: Begin) -> None:
    sights: asyncio.Queue[Sight] = asyncio.Queue()
    waiting = asyncio.create_task(begin(Wanted(guid=ONE)).wait(sights.put_nowait))
    steps: list[Callable[[], None]] = [
        lambda: None,
        lambda: desk.put("A", card(OTHER)),
        lambda: desk.put("B", InlayError("pcsc_sharing")),
        lambda: desk.take("A"),
        lambda: desk.put("A", Evidence(b"\x3b\x00")),
        lambda: desk.put("A", Evidence(b"\x3b\x00", frozenset({bytes.fromhex("A000000151000000")}))),
        lambda: desk.put("A", None),
        lambda: desk.put("A", card(ONE)),
    ]
    told = []
    desk.cards["Inlay 00 00"] = card(ONE)  # in a reader that doesn't count
    for step in steps:
        step()
        seen = await asyncio.wait_for(sights.get(), 5)
        told.append([None if each.problem is None else each.problem.code for each in seen.cards])
    found = await asyncio.wait_for(waiting, 5)
    assert (found.reader, found.problem) == ("A", None)
    assert told == [
        [],
        ["card_other"],
        ["card_other", "pcsc_sharing"],
        ["pcsc_sharing"],
        ["card_not_supported", "pcsc_sharing"],
        ["card_without_application", "pcsc_sharing"],
        ["pcsc_sharing", "pcsc_sharing"],
        [None, "pcsc_sharing"],
    ]
    assert "Inlay 00 00" not in desk.looks


async def test_a_card_is_looked_at_once_while_it_stays(desk: Desk, begin: Begin) -> None:
    search = begin(Wanted(guid=ONE))
    await sight(search)
    desk.put("A", card(OTHER))
    await sight(search)
    desk.put("B", card(OTHER))
    await sight(search)
    assert desk.looks == ["A", "B"]
    desk.put("A", card(ONE))  # taken out and another put in before anybody looked
    assert [each.reader for each in (await sight(search)).fitting] == ["A"]
    assert desk.looks == ["A", "B", "A"]


async def test_of_two_that_fit_a_person_chooses(desk: Desk, begin: Begin) -> None:
    sights: asyncio.Queue[Sight] = asyncio.Queue()
    waiting = asyncio.create_task(begin(Wanted(driver="piv")).wait(sights.put_nowait))
    await asyncio.wait_for(sights.get(), 5)
    desk.cards, desk.counts = {"A": card(ONE), "B": card(OTHER)}, {"A": 1, "B": 1}
    desk.show()
    both = await asyncio.wait_for(sights.get(), 5)
    assert [each.reader for each in both.fitting] == ["A", "B"]
    assert not waiting.done()
    desk.take("A")
    assert (await asyncio.wait_for(waiting, 5)).reader == "B"


async def test_the_serial_counts_where_it_is_asked_for(desk: Desk, begin: Begin) -> None:
    search = begin(Wanted(serial=7))
    await sight(search)
    for shown, fits in ((card(ONE, 8), False), (card(ONE), False), (card(OTHER, 7), True)):
        desk.put("A", shown)
        [found] = (await sight(search)).cards
        assert (found.problem is None) == fits


async def test_a_mute_card_is_looked_at_when_it_speaks(desk: Desk, begin: Begin) -> None:
    search = begin(Wanted())
    await sight(search)
    desk.mute.add("A")
    desk.put("A", card(ONE))
    [found] = (await sight(search)).cards
    assert found.problem is not None
    assert (found.problem.code, desk.looks) == ("pcsc_card_mute", [])
    desk.mute.clear()
    desk.show()
    assert len((await sight(search)).fitting) == 1


async def test_a_service_that_goes_is_said_and_its_cards_are_looked_at_anew(desk: Desk, begin: Begin) -> None:
    search = begin(Wanted())
    await sight(search)
    desk.put("A", card(ONE))
    await sight(search)
    desk.problem = "pcsc_no_service"
    desk.show()
    gone = await sight(search)
    assert (gone.problem, gone.readers, gone.cards) == ("pcsc_no_service", (), ())
    desk.problem = None
    desk.show()
    assert len((await sight(search)).fitting) == 1
    assert desk.looks == ["A", "A"]


async def test_a_card_that_another_program_keeps_is_looked_at_when_it_is_free(
    desk: Desk, begin: Begin
) -> None:
    search = begin(Wanted(guid=ONE))
    await sight(search)
    desk.put("A", None)
    [held] = (await sight(search)).cards
    assert held.problem is not None
    assert held.problem.code == "pcsc_sharing"
    desk.cards["A"] = card(ONE)  # the same card, and nobody put it in anew
    desk.free.set()
    assert [each.reader for each in (await sight(search)).fitting] == ["A"]
    assert desk.looks == ["A", "A"]


async def test_a_card_that_comes_free_after_it_went_changes_nothing(desk: Desk, begin: Begin) -> None:
    search = begin(Wanted(guid=ONE))
    await sight(search)
    desk.put("A", None)
    await sight(search)
    desk.take("A")
    assert (await sight(search)).cards == ()
    desk.free.set()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(search.next(), 0.2)
    desk.put("A", card(ONE))
    assert len((await sight(search)).fitting) == 1


async def test_a_card_held_for_itself_is_tried_again_and_told_once(desk: Desk, begin: Begin) -> None:
    sights: asyncio.Queue[Sight] = asyncio.Queue()
    waiting = asyncio.create_task(begin(Wanted(guid=ONE)).wait(sights.put_nowait))
    await asyncio.wait_for(sights.get(), 5)
    desk.put("A", InlayError("pcsc_sharing"))
    [held] = (await asyncio.wait_for(sights.get(), 5)).cards
    assert held.problem is not None
    await asyncio.to_thread(wait_until, lambda: len(desk.looks) >= 4, "looks again")
    assert sights.empty()
    desk.cards["A"] = card(ONE)  # let go, and nobody tells
    assert (await asyncio.wait_for(waiting, 5)).reader == "A"


async def test_a_card_that_is_shown_as_kept_is_looked_at_again_when_it_is_shown_as_free(
    desk: Desk, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = begin(Wanted(guid=ONE))
    await sight(search)
    pauses: list[object] = []

    def pause(_self: CardSearch, mark: object) -> float:
        pauses.append(mark)
        return 0.01

    monkeypatch.setattr(CardSearch, "_pause", pause)
    desk.kept.add("A")
    desk.put("A", InlayError("pcsc_sharing"))
    [held] = (await sight(search)).cards
    assert held.problem is not None
    desk.cards["A"] = card(ONE)  # let go: that is seen by the watch, and by nothing else
    following = asyncio.create_task(search.next())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(following), 0.2)
    assert (desk.looks, pauses) == (["A"], [])
    desk.kept.clear()
    desk.show()
    assert [each.reader for each in (await asyncio.wait_for(following, 5)).fitting] == ["A"]
    assert desk.looks == ["A", "A"]


async def test_pauses_grow_and_have_an_end(desk: Desk, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_search, "AGAIN_SECONDS", 2.0)
    search = begin(Wanted(guid=ONE))
    assert [search._pause(("A",)) for _ in range(7)] == [2, 4, 8, 16, 32, 32, 32]
    assert search._pause(("B",)) == 2
