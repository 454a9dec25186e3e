"""Where codes come in and orders are carried out: one at a time, each to a named end.

Refusals before an order is verified open no window: a notification at most, except for what a person typed by
hand. From then on everything is said in the order's own window.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.active_order import ActiveOrder, close_terminal, with_own_terminal
from agent.channel import Channel, ChannelClosedError, open_channel
from agent.claims import Claimed, claim, is_open
from agent.consent import build_prompt
from agent.errors import as_inlay_error, error_data
from agent.journal import OpenClaim
from agent.order_exchange import FIRST_PAUSE
from agent.order_ports import GoesForward
from agent.order_recovery import recover, undo_claim
from agent.orders import OrderRun
from agent.ports import InteractionError, NoDisplay
from agent.quiet_window import QuietWindow
from protocol.errors import InlayError
from protocol.messages import Finished, Transport
from protocol.traces import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from agent.device import Device
    from agent.journal_access import JournalAccess
    from agent.order_ports import OrderHandler, Page, Submission
    from agent.ports import DialogWindow, Notifier, UserEnvironment, WindowSession
    from agent.trust import TrustEntry, TrustStore
    from agent.virtual_card_ports import Cards

_LOG = logging.getLogger(__name__)

_CLAIM_SECONDS: Final = 30.0
"""How long a person may wait for the answer to a claim before it is said that the portal is away."""


class Tools(NamedTuple):
    """What the desk works with.

    Attributes:
        trust: the portals.
        device: the device key.
        journal: the journal.
        cards: the cards.
        windows: opens windows.
        notifier: notifies where no window may be opened.
        handlers: operation (its struct) to handler.
        environment: where this user's notifications appear when no command brings an order.
    """

    trust: TrustStore
    device: Device
    journal: JournalAccess
    cards: Cards
    windows: DialogWindow
    notifier: Notifier
    handlers: Mapping[type, OrderHandler]
    environment: Callable[[], UserEnvironment]


class OrderDesk:
    """Takes codes, carries orders out, and goes on with those that a restart cut short."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._active: ActiveOrder | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_tell: set[OrderRun] = set()
        """orders whose end is told: a task that is cancelled before its first step closes nothing"""
        self._resuming = asyncio.Lock()
        self._resumed = False

    # --- in

    def submit(self, submission: Submission) -> ActiveOrder:
        """Take a code; the work goes on by itself, with a descriptor of its own for the terminal.

        Raises:
            InlayError: ``portal_unknown``, ``order_busy``: nothing is done.
        """
        active = self._active
        if active is not None and not active.ended.done() and active.same_code(submission):
            self._spawn(_raise_window(active))
            return active
        submission = with_own_terminal(submission)
        try:
            entry = self._accept(submission)
        except InlayError as error:
            self._spawn(self._turn_away(submission, error))
            raise
        self._active = ActiveOrder(submission)
        self._spawn(self._work(self._active, entry))
        return self._active

    def _accept(self, submission: Submission) -> TrustEntry:
        if self._active is not None and self._active.blocking:
            raise InlayError("order_busy")
        return self._tools.trust.find(submission.portal)

    def under_way(self) -> list[str]:
        """The order that is being carried out, as a person knows it; empty when there is none."""
        active = self._active
        if active is None or active.ended.done():
            return []
        what = "an order" if active.run is None else active.run.title
        return [f"{what} of {active.submission.portal}"]

    async def resume(self) -> None:
        """Go on with, or undo, what the last run of the agent left: once, before anything new is begun.

        At start, or as soon as the key store is open; the first code sees to it otherwise.

        Raises:
            InlayError: the journal can't be opened; it may be tried again.
        """
        async with self._resuming:
            if self._resumed:
                return
            journal = await asyncio.to_thread(self._tools.journal.get)
            left = await asyncio.to_thread(journal.unsettled)
            claims = await asyncio.to_thread(journal.open_claims)
            self._resumed = True
        for item in left:
            self._spawn(recover(self, self._tools, item))
        for asked in claims:
            self._spawn(undo_claim(self, self._tools, asked))

    async def close(self) -> None:
        """Stop: what may be undone is undone here, and told at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for run in list(self._to_tell):
            await run.close()

    # --- one order

    async def _work(self, active: ActiveOrder, entry: TrustEntry) -> None:
        """One code from its claim to its end; whatever happens is said to somebody."""
        error: InlayError | None = InlayError("order_interrupted")
        try:
            error = await self._claim_and_carry_out(active, entry)
        finally:
            close_terminal(active.submission)
            if not active.ended.done():
                active.ended.set_result(error)
            page = active.submission.page
            if page is not None:
                refused = active.run is None
                page.ended("finished" if error is None else "refused" if refused else "undone", error)

    async def _claim_and_carry_out(self, active: ActiveOrder, entry: TrustEntry) -> InlayError | None:
        submission = active.submission
        try:
            claimed, channel = await self._claim(submission, entry)
        except (InlayError, ChannelClosedError, OSError) as cause:
            refusal = _unreachable(entry) if isinstance(cause, ChannelClosedError) else as_inlay_error(cause)
            _LOG.warning("code for %s refused: %s", entry.portal, refusal.code)
            await self._refuse(submission, refusal)
            return refusal
        journal = await asyncio.to_thread(self._tools.journal.get)
        run = OrderRun(
            claimed.ref,
            claimed.order,
            claimed.keys,
            journal,
            lambda: open_channel(entry, self._tools.trust),
            window=QuietWindow(),
            page=submission.page,
            number=claimed.number,
        )
        active.run = run
        clock = channel.portal_clock
        run.connect(channel)
        handler = self._tools.handlers[type(claimed.order.parameters)]

        async def perform() -> None:
            prompt = build_prompt(handler, claimed.order, entry, clock)
            active.show(run, await self._tools.windows.open(prompt, submission.environment), prompt)
            await handler.perform(run)

        error = await self.carry_out(run, handler, perform())
        await self._say_end(run, submission, error)
        return error

    async def _claim(self, submission: Submission, entry: TrustEntry) -> tuple[Claimed, Channel]:
        """Claim a code. A claim whose answer is lost is repeated for a while, then asked for without the person."""
        await self.resume()
        journal = await asyncio.to_thread(self._tools.journal.get)
        origin = None if submission.page is None else submission.page.origin
        asked = OpenClaim(entry.portal, submission.code, submission.transport, origin)
        until = time.monotonic() + _CLAIM_SECONDS
        pause = FIRST_PAUSE
        while True:
            try:
                return await self.claim_once(entry, asked, page=submission.page)
            except (InlayError, ChannelClosedError, OSError) as cause:
                if not await is_open(journal, asked):
                    raise
                if time.monotonic() + pause > until:
                    self._spawn(undo_claim(self, self._tools, asked))
                    raise
                _LOG.info("claim at %s: no answer (%s), asking again", entry.portal, type(cause).__name__)
            await asyncio.sleep(pause)
            pause *= 2

    async def claim_once(
        self, entry: TrustEntry, asked: OpenClaim, *, page: Page | None = None, bound: bool = True
    ) -> tuple[Claimed, Channel]:
        """Dial and claim, once; see `agent.claims.claim`. The caller closes the channel."""
        key = await asyncio.to_thread(self._tools.device.key)
        journal = await asyncio.to_thread(self._tools.journal.get)
        levels = await self._tools.cards.levels()
        cards = await self._tools.cards.generations(entry.portal)
        channel = await open_channel(entry, self._tools.trust)
        try:
            return await claim(channel, asked, key, levels, cards, journal, page=page, bound=bound), channel
        except BaseException:
            await channel.close()
            raise

    async def carry_out(
        self, run: OrderRun, handler: OrderHandler, performing: Coroutine[Any, Any, None]
    ) -> InlayError | None:
        """Carry an order out to its end here; the error it was undone by, or None.

        Args:
            run: the order.
            handler: its operation.
            performing: what there is to do up to the receipt.
        """
        while True:
            try:
                await performing
                await run.receive(Finished)
            except asyncio.CancelledError:
                if run.may_undo and not await self._goes_on_at_next_start(run, handler):
                    await self.undo(run, handler, InlayError("order_interrupted"), tell=False)
                await run.close()
                raise
            except Exception as cause:
                error = as_inlay_error(cause)
                if run.may_undo:
                    await self.undo(run, handler, error, tell=True)
                    return error
                # the receipt is out: whatever failed here, the portal has the last word, and is waited for
                _LOG.error("order %s: %s after the receipt", run.ref.jti, error.code)
                performing = _nothing()
            else:
                return await self.finish(run, handler)

    async def _goes_on_at_next_start(self, run: OrderRun, handler: OrderHandler) -> bool:
        """Whether the point of no return was passed: the journal stays open, for `agent.order_recovery.recover`."""
        if not isinstance(handler, GoesForward):
            return False
        journal = await asyncio.to_thread(self._tools.journal.get)
        try:
            steps = await asyncio.to_thread(journal.steps, run.ref)
            return await handler.receipt_after(run.order, steps) is not None
        except InlayError:
            return True

    async def finish(self, run: OrderRun, handler: OrderHandler) -> InlayError | None:
        """After ``finished``: make the card usable, and write the end."""
        journal = await asyncio.to_thread(self._tools.journal.get)
        try:
            await handler.finish(run)
        except (InlayError, OSError) as cause:
            error = as_inlay_error(cause)
            _LOG.error("order %s is finished, and its card is not usable yet: %s", run.ref.jti, error.code)
            return error  # stays open in the journal: the next start tries again
        finally:
            await run.close()
        await asyncio.to_thread(journal.end, run.ref, "finished")
        await asyncio.to_thread(journal.settle, run.ref)
        _LOG.info("order %s finished", run.ref.jti)
        return None

    async def undo(self, run: OrderRun, handler: OrderHandler, error: InlayError, *, tell: bool) -> None:
        """Remove what was made, write the end, and tell the portal (at once, or at the next start)."""
        journal = await asyncio.to_thread(self._tools.journal.get)
        _LOG.warning("order %s is undone: %s", run.ref.jti, error.code)
        removed = True
        try:
            await handler.undo(run.order)
        except (InlayError, OSError) as cause:
            # never attached, and revoked at the portal; the next start tries again
            removed = False
            _LOG.error("what order %s made can't be removed: %s", run.ref.jti, describe(cause))
        await run.say_undone(error)
        if removed:
            await asyncio.to_thread(journal.end, run.ref, "undone", error_data(error))
        if tell:
            self._to_tell.add(run)
            self._spawn(self.tell(run))

    async def tell(self, run: OrderRun) -> None:
        """Wait until the portal has heard of the end; nothing is left to be said then."""
        journal = await asyncio.to_thread(self._tools.journal.get)
        try:
            await run.delivered()
            if (await asyncio.to_thread(journal.order, run.ref)).outcome != "open":
                await asyncio.to_thread(journal.settle, run.ref)
        finally:
            self._to_tell.discard(run)
            await run.close()

    # --- telling the person

    async def _say_end(self, run: OrderRun, submission: Submission, error: InlayError | None) -> None:
        """Show an error in the order's window, and leave the last page open until the person closes it."""
        window: WindowSession = run.window
        if isinstance(window, QuietWindow) and error is not None:
            await self._refuse(submission, error)
            return
        with contextlib.suppress(InteractionError):
            if error is not None and error.code != "user_cancelled":
                await window.show_error(error)
        self._spawn(_linger(window))

    async def _turn_away(self, submission: Submission, error: InlayError) -> None:
        """Say why a code isn't taken."""
        try:
            await self._refuse(submission, error)
        finally:
            close_terminal(submission)

    async def _refuse(self, submission: Submission, error: InlayError) -> None:
        """Say a refusal: in a window to who typed a code by hand, else by a notification."""
        if submission.transport is Transport.TYPED and not isinstance(error, NoDisplay):
            try:
                window = await self._tools.windows.open_error(error, submission.environment)
            except InteractionError as failure:
                _LOG.info("no window for %s: %s", error.code, failure.code)
            else:
                self._spawn(_linger(window))
            return
        await self._tools.notifier.notify(error, submission.environment)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.critical("not foreseen: %s", describe(error))


async def _nothing() -> None:
    return


async def _raise_window(active: ActiveOrder) -> None:
    if active.run is not None:
        with contextlib.suppress(InteractionError):
            await active.run.window.raise_window()


async def _linger(window: WindowSession) -> None:
    try:
        with contextlib.suppress(InteractionError):
            await window.wait_closed()
    finally:
        await window.close()


def _unreachable(entry: TrustEntry) -> InlayError:
    return InlayError("portal_unreachable", portal=entry.portal, cause="it closed the connection")
