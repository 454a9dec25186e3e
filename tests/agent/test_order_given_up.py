"""Work that is given up before it begins: it is neither begun nor forgotten in the air."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from agent.channel import Channel
from agent.journal import Journal, OrderRef, Phase
from agent.order_exchange import OrderKeys
from agent.orders import OrderRun
from agent.ports import UserCancelled, while_open
from agent.sealing import Sealer
from protocol import codec, jose
from protocol.errors import InlayError
from protocol.messages import Finished, Message, Order, Receipt
from protocol.orders import Position, Stage
from tests.support.fake_windows import FakeWindow

EXAMPLES = Path(__file__).parents[2] / "protocol" / "examples" / "valid"
M = TypeVar("M", bound=Message)


def _example(name: str, type_: type[M]) -> M:
    value = msgspec.json.decode((EXAMPLES / name).read_bytes())["value"]
    return codec.convert(value, type_, malformed="params_invalid")


class SlowJournal(Journal):
    """Writes a step when the test says so, or not at all."""

    writing: threading.Event
    may_write: threading.Event
    error: InlayError | None = None

    def step(self, ref: OrderRef, step: str, phase: Phase) -> None:
        self.writing.set()
        assert self.may_write.wait(20)
        if self.error is not None:
            raise self.error
        super().step(ref, step, phase)

    def store_sent(self, ref: OrderRef, position: Position, seq: int, token: str) -> None:
        self.writing.set()
        assert self.may_write.wait(20)
        super().store_sent(ref, position, seq, token)


async def undialled() -> Channel:
    raise AssertionError("nobody is called here")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SlowJournal]:
    opened = SlowJournal(tmp_path / "journal.sqlite", Sealer(bytes(32)))
    opened.writing, opened.may_write = threading.Event(), threading.Event()
    yield opened
    opened.close()


@pytest.fixture
async def run(journal: SlowJournal) -> AsyncIterator[OrderRun]:
    order = _example("order.json", Order)
    ref = OrderRef(order.iss, order.jti)
    journal.begin(ref, "token", b"key")
    keys = OrderKeys(jose.SigningKey.generate(), jose.SigningKey.generate())
    made = OrderRun(ref, order, keys, journal, undialled, window=FakeWindow(None))
    yield made
    await made.close()
    gc.collect()  # a coroutine that was never awaited is an error here


class Work:
    """Something to do that says whether it was begun."""

    begun = False

    async def do(self) -> None:
        self.begun = True


async def test_cancelled_while_the_step_is_being_written(journal: SlowJournal, run: OrderRun) -> None:
    work = Work()
    step = asyncio.create_task(run.record("generate 9A", work.do()))
    await asyncio.to_thread(journal.writing.wait, 20)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    journal.may_write.set()
    assert not work.begun


async def test_guarded_and_the_window_closes_while_the_step_is_being_written(
    journal: SlowJournal, run: OrderRun
) -> None:
    work = Work()
    step = asyncio.create_task(run.guard(run.record("generate 9A", work.do())))
    await asyncio.to_thread(journal.writing.wait, 20)
    assert isinstance(run.window, FakeWindow)
    run.window.failure = UserCancelled("keys")
    run.window.closed.set()
    with pytest.raises(UserCancelled):
        await step
    journal.may_write.set()
    assert not work.begun


async def test_a_step_that_cannot_be_written_is_not_begun(journal: SlowJournal, run: OrderRun) -> None:
    work = Work()
    journal.error = InlayError("card_write_failed", cause="SQLITE_FULL")
    journal.may_write.set()
    with pytest.raises(InlayError) as caught:
        await run.record("generate 9A", work.do())
    assert caught.value.code == "card_write_failed"
    assert not work.begun


@pytest.mark.parametrize("turns", range(4))
async def test_given_up_at_once(journal: SlowJournal, run: OrderRun, turns: int) -> None:
    """However few turns of the loop it had."""
    journal.may_write.set()
    work = Work()
    window = FakeWindow(None)
    guarded = asyncio.create_task(run.guard(run.record("generate 9A", work.do())))
    opened = asyncio.create_task(while_open(window, work.do()))
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    guarded.cancel()
    opened.cancel()
    await asyncio.wait({guarded, opened})


async def test_closed_before_it_began(run: OrderRun) -> None:
    window = FakeWindow(None, failure=UserCancelled("keys"))
    window.closed.set()
    with pytest.raises(UserCancelled):
        await while_open(window, asyncio.Event().wait())


async def test_a_question_that_ends_by_itself_when_its_window_closes_leaves_no_error_unheard(
    run: OrderRun,
) -> None:
    """As one on a terminal does: it ends in the same turn in which it is given up."""
    unheard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, told: unheard.append(told["message"]))
    window = FakeWindow(None)
    run.window = window

    asking = asyncio.Event()

    async def ask() -> None:
        asking.set()
        await asyncio.wait({asyncio.create_task(window.closed.wait())})
        raise UserCancelled("consent")

    asked = asyncio.create_task(run.guard(ask()))
    await asking.wait()
    window.failure = UserCancelled("progress")
    window.closed.set()
    with pytest.raises(UserCancelled):
        await asked
    del asked
    gc.collect()
    assert not unheard


async def test_written_and_done(journal: SlowJournal, run: OrderRun) -> None:
    journal.may_write.set()
    work = Work()
    await run.record("make", work.do())
    assert work.begun
    assert journal.steps(run.ref) == [("make", "before"), ("make", "after")]


async def test_given_up_while_the_receipt_is_being_written(journal: SlowJournal, run: OrderRun) -> None:
    """The receipt is out, so the portal decides: what this side wanted to end with is void, and it is asked."""
    run._exchange.position = Position(Stage.CERTIFIED, 2, 2)
    sending = asyncio.create_task(run.send(_example("receipt.json", Receipt)))
    await asyncio.to_thread(journal.writing.wait, 20)
    run._give_up(InlayError("order_undone"))
    journal.may_write.set()
    await sending
    assert not run.may_undo
    waiting = asyncio.create_task(run.receive(Finished))
    assert await asyncio.wait({waiting}, timeout=0.05) == (set(), {waiting})
    run._pass_on(Finished())
    assert await waiting == Finished()


async def test_undone_by_the_portal_while_the_receipt_is_being_written(
    journal: SlowJournal, run: OrderRun
) -> None:
    run._exchange.position = Position(Stage.UNDOING, 2, 3)
    run._interrupt(InlayError("cancelled_at_portal"))
    with pytest.raises(InlayError) as caught:
        await run.send(_example("receipt.json", Receipt))
    assert caught.value.code == "cancelled_at_portal"
    assert not journal.writing.is_set()
