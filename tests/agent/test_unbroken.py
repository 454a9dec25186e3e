"""Work that isn't broken off in the middle, and what may be broken off all the same."""

from __future__ import annotations

import asyncio

import pytest

from agent import unbroken
from agent.unbroken import for_a_person, to_its_end


@pytest.fixture
def never_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unbroken, "LEFT_SECONDS", 3600)


class Work:
    """Comes to the card, goes on when it is let, and remembers how it ended."""

    def __init__(self) -> None:
        self.at_card, self.let = asyncio.Event(), asyncio.Event()
        self.ended = ""

    async def on_card(self) -> None:
        await self._until_let()

    async def for_card(self) -> None:
        with for_a_person():
            await self._until_let()

    async def back_on_card(self) -> None:
        with for_a_person():
            await asyncio.sleep(0)
        await self._until_let()

    async def on_card_then_gone(self) -> None:
        await self._until_let()
        self.ended = ""
        with for_a_person():
            await asyncio.Event().wait()

    async def _until_let(self) -> None:
        self.at_card.set()
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.ended = "broken off"
            raise
        self.ended = "done"


@pytest.mark.usefixtures("never_impatient")
async def test_who_is_cancelled_waits_for_what_the_card_is_told() -> None:
    for way in (Work.on_card, Work.back_on_card):
        work = Work()
        task = asyncio.ensure_future(to_its_end(way(work)))
        await work.at_card.wait()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.01)
        assert not done
        work.let.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.ended == "done"


@pytest.mark.usefixtures("never_impatient")
async def test_nobody_is_waited_for_when_the_work_is_cancelled() -> None:
    work = Work()
    task = asyncio.ensure_future(to_its_end(work.for_card()))
    await work.at_card.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended == "broken off"


@pytest.mark.usefixtures("never_impatient")
async def test_a_card_that_goes_after_the_cancellation_isnt_waited_for() -> None:
    work = Work()
    task = asyncio.ensure_future(to_its_end(work.on_card_then_gone()))
    await work.at_card.wait()
    task.cancel()
    await asyncio.sleep(0)
    work.let.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unbroken, "LEFT_SECONDS", 0.01)
    work = Work()
    task = asyncio.ensure_future(to_its_end(work.on_card()))
    await work.at_card.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended == "broken off"


async def test_what_the_work_gives_or_raises_is_passed_on() -> None:
    async def seven() -> int:
        with for_a_person():
            return 7

    async def fails() -> None:
        raise KeyError("what")

    assert await to_its_end(seven()) == 7
    with pytest.raises(KeyError, match="what"):
        await to_its_end(fails())


async def test_outside_of_such_work_waiting_for_a_person_means_nothing() -> None:
    with for_a_person():
        await asyncio.sleep(0)
