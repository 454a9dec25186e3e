"""A card and a portal that is slow, silent or wrong; cancelling; and a card that goes while it waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from agent import card_session, card_thread, unbroken
from agent.card_session import CardSession
from agent.pcsc import piv_cipher, piv_objects, piv_pin, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_authenticate import Proof, Question
from agent.pcsc.piv_names import ManagementAlgorithm
from protocol.errors import InlayError
from tests.cards.profiles import PROFILES
from tests.cards.simulated import PIN, SimulatedCard, SimulatedLink, factory_key

TDES = ManagementAlgorithm.TDES
DISCOVERY = bytes.fromhex("00CB3FFF035C017E00")


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> SimulatedLink:
    monkeypatch.setattr(card_session, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(card_session, "KEEP_ALIVE_SECONDS", 0.02)
    return SimulatedLink(SimulatedCard(PROFILES[0]))


@pytest.fixture
async def session(link: SimulatedLink) -> AsyncIterator[CardSession]:
    async with CardSession(lambda: CardConnection(link, "Reader")) as opened:
        await opened.run(piv_select.select)
        yield opened


async def right(question: Question) -> Proof:
    return piv_cipher.answer(factory_key(question.algorithm), question)


class _Late:
    """A portal whose first answers come when the card's session says that they are late, and not before."""

    def __init__(self, how_many: int) -> None:
        self.questions: list[Question] = []
        self.said = 0
        self._how_many = how_many
        self._waiting = asyncio.Event()

    async def answer(self, question: Question) -> Proof:
        self.questions.append(question)
        if len(self.questions) <= self._how_many:
            await self._waiting.wait()
            self._waiting.clear()
        return await right(question)

    async def late(self) -> None:
        self.said += 1
        self._waiting.set()


async def test_a_portal_that_never_answers_in_time_is_told(session: CardSession, link: SimulatedLink) -> None:
    portal = _Late(3)
    with pytest.raises(InlayError) as caught:
        await session.authenticate(TDES, portal.answer, late=portal.late)
    assert caught.value.code == "card_management_slow"
    assert len({question.data for question in portal.questions}) == portal.said == 3
    assert not link.card.managed


@pytest.mark.parametrize("mutual", [False, True])
async def test_once_a_late_answer_has_come_the_card_asks_anew(
    session: CardSession, link: SimulatedLink, mutual: bool
) -> None:
    portal = _Late(2)
    await session.authenticate(TDES, portal.answer, mutual=mutual, late=portal.late)
    assert (len(portal.questions), portal.said, link.card.managed) == (3, 2, True)


async def test_a_card_that_waits_for_a_late_answer_is_kept_alive_and_asks_nothing(
    session: CardSession, link: SimulatedLink
) -> None:
    alive = asyncio.Event()
    loop, asked = asyncio.get_running_loop(), 0

    def seen(_number: int) -> None:
        if DISCOVERY in link.card.commands:
            loop.call_soon_threadsafe(alive.set)

    async def unreachable(question: Question) -> Proof:
        nonlocal asked
        asked += 1
        if asked == 1:
            await alive.wait()
        return await right(question)

    link.before = seen
    await session.authenticate(TDES, unreachable)
    assert [raw[1] for raw in link.card.commands if raw[1] == 0x87] == [0x87] * 3
    assert (asked, link.card.managed) == (2, True)


async def test_a_card_that_goes_while_a_late_answer_is_waited_for_ends_the_wait(
    session: CardSession, link: SimulatedLink
) -> None:
    async def never(_question: Question) -> Proof:
        await asyncio.Event().wait()
        raise AssertionError

    async def gone() -> None:
        def before(_number: int) -> None:
            raise InlayError("pcsc_card_removed")

        link.before = before

    with pytest.raises(InlayError) as caught:
        await session.authenticate(TDES, never, late=gone)
    assert caught.value.code == "pcsc_card_removed"


async def test_an_agent_that_is_to_end_doesnt_wait_for_a_late_answer(
    session: CardSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unbroken, "LEFT_SECONDS", 3600)
    waits = asyncio.Event()

    async def never(_question: Question) -> Proof:
        await asyncio.Event().wait()
        raise AssertionError

    async def late() -> None:
        waits.set()

    work = asyncio.create_task(unbroken.to_its_end(session.authenticate(TDES, never, late=late)))
    await waits.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_nothing_comes_between_question_and_answer(session: CardSession, link: SimulatedLink) -> None:
    async def unhurried(question: Question) -> Proof:
        await asyncio.sleep(0.1)
        return await right(question)

    await session.authenticate(TDES, unhurried)
    assert [raw[1] for raw in link.card.commands[-2:]] == [0x87, 0x87]
    assert DISCOVERY not in link.card.commands


async def test_a_wrong_answer_is_no_reason_to_try_again(session: CardSession) -> None:
    asked = 0

    async def wrong(question: Question) -> Proof:
        nonlocal asked
        asked += 1
        return Proof(bytes(len(question.data)))

    with pytest.raises(InlayError) as caught:
        await session.authenticate(TDES, wrong)
    assert (caught.value.code, asked) == ("card_management_wrong", 1)


async def test_a_card_that_waits_is_kept_alive(session: CardSession, link: SimulatedLink) -> None:
    await session.run(piv_pin.verify, PIN)
    alive = asyncio.Event()
    loop = asyncio.get_running_loop()

    def seen(_number: int) -> None:
        if len([raw for raw in link.card.commands if raw == DISCOVERY]) >= 2:
            loop.call_soon_threadsafe(alive.set)

    link.before = seen
    await session.awaiting(asyncio.wait_for(alive.wait(), 10))
    assert link.card.pin_ok


async def test_a_card_that_goes_while_it_waits_ends_the_wait(
    session: CardSession, link: SimulatedLink
) -> None:
    def gone(_number: int) -> None:
        raise InlayError("pcsc_card_removed")

    link.before = gone
    answer = asyncio.get_running_loop().create_future()
    with pytest.raises(InlayError) as caught:
        await session.awaiting(answer)
    assert caught.value.code == "pcsc_card_removed"
    assert answer.cancelled()


async def test_a_cancelled_command_is_carried_to_its_end_first(
    session: CardSession, link: SimulatedLink
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(_number: int) -> None:
        begun.set()
        go_on.wait(10)

    link.before = hold
    task = asyncio.create_task(session.run(piv_objects.read_chuid))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert link.card.commands[-1][1] == 0xCB


@pytest.mark.parametrize("impatient", [False, True])
async def test_a_card_that_never_answers_is_left_to_itself(
    link: SimulatedLink, monkeypatch: pytest.MonkeyPatch, impatient: bool
) -> None:
    """It asks for more time without end: who cancels gets away, and what the card was proved is reset behind it."""
    monkeypatch.setattr(card_thread, "LEFT_SECONDS", 0.1 if not impatient else 60)
    begun, go_on = threading.Event(), threading.Event()
    async with CardSession(lambda: CardConnection(link, "Reader")) as session:
        await session.run(piv_select.select)
        await session.run(piv_pin.verify, PIN)

        def hold(_number: int) -> None:
            begun.set()
            go_on.wait(20)

        link.before = hold
        task = asyncio.create_task(session.run(piv_objects.read_chuid))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        if impatient:
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (link.resets, go_on.is_set()) == (0, False)
    workers = [thread for thread in threading.enumerate() if thread.name == "card"]
    assert all(thread.daemon for thread in workers)
    link.before = lambda _number: None
    go_on.set()
    for thread in workers:
        await asyncio.to_thread(thread.join, 10)
    assert link.resets == 1


async def test_one_that_is_cancelled_while_it_lets_the_card_go_leaves_no_thread(link: SimulatedLink) -> None:
    connection = CardConnection(link, "Reader")
    session = CardSession(lambda: connection)
    begun, go_on = threading.Event(), threading.Event()
    close = connection.close

    def unhurried() -> None:
        begun.set()
        go_on.wait(20)
        close()

    before = set(threading.enumerate())
    await session.open()
    (worker,) = [each for each in threading.enumerate() if each not in before and each.name == "card"]
    connection.close = unhurried  # type: ignore[method-assign]
    task = asyncio.create_task(session.close())
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(worker.join, 10)
    assert not worker.is_alive()


async def test_a_closed_session_does_nothing_more(link: SimulatedLink) -> None:
    session = CardSession(lambda: CardConnection(link, "Reader"))
    with pytest.raises(InlayError):
        await session.run(piv_select.select)
    async with session:
        await session.run(piv_select.select)
        await session.run(piv_pin.verify, PIN)
    assert link.resets == 1
    assert not link.card.pin_ok
    with pytest.raises(InlayError) as caught:
        await session.run(piv_select.select)
    assert caught.value.code == "pcsc_card_removed"


async def test_a_card_that_can_not_be_connected_leaves_no_thread(link: SimulatedLink) -> None:
    def fails() -> CardConnection:
        raise InlayError("pcsc_sharing")

    with pytest.raises(InlayError):
        async with CardSession(fails):
            raise AssertionError
    for thread in threading.enumerate():
        if thread.name.startswith("card"):
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()
