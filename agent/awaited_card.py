"""A physical card that may go at any moment, and is waited for: the same one, in any reader.

What was interrupted is done again once the same card is there. The same card is the one that was taken first, not one
that would have done as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from agent.card_search import WantedAgain, mark_of
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import KeyAlgorithm
from agent.pcsc.take_up import take_up
from agent.piv_card import ALGORITHMS
from agent.unbroken import for_a_person
from protocol.errors import InlayError
from protocol.messages import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.card_search import CardMark, Criterion, FoundCard
    from agent.card_session import CardSession
    from agent.management_proof import PortalKey
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pcsc.look import Evidence
    from agent.pcsc.piv_names import ManagementAlgorithm
    from agent.pcsc.piv_objects import Chuid
    from agent.returning_card import PhysicalCard
    from protocol.messages import Algorithm

T = TypeVar("T")
Confirm = Callable[["FoundCard"], Awaitable[str | None]]
"""Says of what card of the portal's it is that was found, where it is another; raises where the order is over."""
GONE: Final = frozenset(
    {
        "pcsc_card_removed",
        "pcsc_card_reset",
        "pcsc_card_mute",
        "pcsc_no_service",
        "pcsc_failed",
        "pcsc_sharing",
    }
)
"""What a card comes back from when a person does what the window says."""
_FORGETFUL: Final = frozenset(
    {"card_management_needed", "card_pin_needed", "card_refused", "card_answer_malformed"}
)
"""What comes of it when the power of a card is cut without a word that selects its application by itself.

Nothing else tells, so the step is begun anew, once; a card that means it says it again.
"""
_IN_A_ROW: Final = 8
"""So often one and the same step may be interrupted before it is given up."""
_ASKED_FOR: Final = frozenset({"importing"})
"""What cards are asked for when they are looked at, of what orders want to know before they change anything."""
_CLOSING: Final = (
    "Without it the card stays half done, and has to be finished by starting again from the page."
)

_GIVING_UP: Final = (
    "Who closes this window leaves the card half done; it is finished by starting again from the page then."
)


class AwaitedCard:
    """One card in an order's hands; close it in the end."""

    def __init__(
        self,
        context: OrderContext,
        readers: CardReaders,
        ordered: PhysicalCard,
        total: tuple[int, int],
        key: PortalKey | None = None,
        confirm: Confirm | None = None,
    ) -> None:
        """Prepare; the card is waited for when it is needed.

        Args:
            context: the order, whose window says what to do.
            readers: where the card is.
            ordered: which card.
            total: steps done when the card is waited for, and of how many.
            key: proves the management key once `prove_key` was called.
            confirm: has the person say that a card is the one, where nothing on it tells; raises where it isn't.
        """
        self._context, self._readers, self._ordered, self._total = context, readers, ordered, total
        self._key, self._confirm = key, confirm
        self._key_is_needed = self._proved = False
        self._session: CardSession | None = None
        self._taken: WantedAgain | None = None
        self._waited = self._picked = False
        self._others: dict[CardMark, str] = {}
        self.serial: str | None = None
        """what the card says its serial number is, decimal; None, too, where the portal knows it by another one"""
        self.changed = False
        """the point of no return was passed: who gives up waiting for the card leaves it half done"""
        self.imports = True
        """whether it takes keys that were made elsewhere, as far as it could be asked"""
        self.tells_keys = True
        """it has metadata, of its keys, too"""
        self.pin_blocked = False
        """its PIN was blocked when it was looked at"""
        self.may_reset = False
        """it has commands beyond the standard, of which RESET may be one: asking for that one would be doing it"""
        self.came_blank = False
        """it had no identity when it was taken first: nobody has had it"""
        self._resetting = self._renumbered = False
        self._named: frozenset[int] = frozenset()
        self._there: FoundCard | None = None
        self._chuid: Chuid | Literal["unread"] | None = "unread"
        self._took_puk = self._said_late = False

    def knows(self, algorithm: Algorithm) -> bool:
        """Whether it has this algorithm of keys, as far as it says: what it names, or all when it names none."""
        return not self._named or ALGORITHMS[algorithm] in self._named

    # --- the card itself

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Do something with the card's connection: ``run(piv_objects.write_ccc)``; again after it was away."""
        return await self.with_session(lambda session: session.run(work, *arguments))

    async def with_session(
        self, work: Callable[[CardSession], Awaitable[T]], forgetful: frozenset[str] = _FORGETFUL
    ) -> T:
        """Do something with the card's session; again after it was away.

        Args:
            work: what is done.
            forgetful: codes after which it is done once more where the management key was proved before.

        Raises:
            InlayError: what the work raises, and ``pcsc_…`` when it was interrupted again and again.
        """
        forgot = False
        for attempt in range(_IN_A_ROW):
            session = await self._present()
            try:
                return await work(session)
            except InlayError as error:
                if error.code in forgetful and self._proved and not forgot:
                    forgot = True
                elif error.code not in GONE:
                    raise
                await self.let_go()
                if attempt == _IN_A_ROW - 1:
                    raise
        raise AssertionError

    async def once(self, work: Callable[..., T], *arguments: object) -> T:
        """Do something with the card's connection that software must not do twice; the card is let go afterwards.

        Raises:
            InlayError: what the work raises; any of `GONE`: it is not known whether it was done.
        """
        for _ in range(_IN_A_ROW):
            session, held = await self._present(), False

            def once(card: CardConnection) -> T:
                nonlocal held
                with card.held():
                    held = True
                    return work(card, *arguments)

            try:
                return await session.run(once)
            except InlayError as error:
                if held or error.code not in GONE:
                    raise
            finally:
                await self.let_go()
        raise InlayError("pcsc_card_removed")

    async def awaiting(self, answer: Awaitable[T]) -> T:
        """Wait for the portal; the card is kept alive as long as it is there, and may go meanwhile."""
        task = asyncio.ensure_future(answer)
        try:
            if self._session is not None:
                try:
                    return await self._session.awaiting(asyncio.shield(task))
                except InlayError as error:
                    if error.code not in GONE and not task.done():
                        raise
                    await self.let_go()
            return await task  # whatever became of the card, what was awaited counts
        finally:
            task.cancel()

    async def found(self) -> None:
        """Wait until the card is in a reader; it isn't taken up before something is to be done with it."""
        if self._session is None and self._there is None:
            self._there = await self._found()
            self.pin_blocked = _is_blocked(self._there.shown)

    @property
    def told_apart(self) -> bool:
        """Whether the card that was taken differs from others before it has the order's GUID.

        Its maker may have written the same GUID on a whole batch: one that a person has confirmed is confirmed again
        whenever it comes back.
        """
        taken = self._taken
        if taken is None or taken.serial is not None:
            return taken is not None
        return not taken.any_guid and None not in taken.guids

    async def let_go(self) -> None:
        """Release the card, reset if anything was proved to it."""
        session, self._session, self._proved = self._session, None, False
        self._chuid = "unread"
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """The order's work on it is over."""
        await self.let_go()

    # --- coming and going

    async def _present(self) -> CardSession:
        """The open session; waits for the card where there is none.

        Raises:
            InlayError: ``pcsc_…``: the card is there, and can't be opened; ``timeout``: it never came.
        """
        in_a_row = 0
        while self._session is None:
            self._waited = False
            there, self._there = self._there or await self._found(), None
            gone = await self._open(there)
            if gone is None:
                continue
            in_a_row = 0 if self._waited else in_a_row + 1
            if in_a_row == _IN_A_ROW:
                raise gone
        return self._session

    async def _found(self) -> FoundCard:
        """Wait for the card, past those that are others of the portal's."""
        while True:
            found = await self._waited_for()
            told = self._taken is not None and self._taken.serial is not None
            named = told or (found.shown is not None and self._ordered.wanted().is_named_by(found.shown))
            asked = self._ordered.unnamed or (self._ordered.by_number and not named)
            if not asked or await self._have_confirmed(found):
                return found

    async def _waited_for(self) -> FoundCard:
        """Wait for a card that may be it, no longer than the order lasts."""
        ordered, seconds = self._ordered, self._context.order.resume_within
        wanted: Criterion = self._taken or ordered.wanted(self._others)
        window, back = self._context.window, self._taken is not None
        ask = self._picked and not self.told_apart  # it may be another one: who has picked it says so again
        waiting = self._readers.wait(
            window,
            wanted,
            ordered.label,
            self._say_seen,
            back=back,
            ask=ask,
            pick=ordered.by_number,
            features=_ASKED_FOR,
        )
        try:
            async with asyncio.timeout(seconds):
                with for_a_person():
                    found = await self._context.guard(waiting)
        except TimeoutError:
            raise InlayError("timeout", seconds=seconds) from None
        self._picked = self._picked or found.picked
        self._waited = self._waited or found.picked
        return found

    async def _have_confirmed(self, found: FoundCard) -> bool:
        """Have it said that this card is the one; from then on none with another GUID is.

        Returns:
            False: it is another card of the portal's, and isn't taken again.

        Raises:
            InlayError: it isn't: ``user_cancelled``, ``card_of_other_object``; why the order ended.
        """
        if self._confirm is None:
            raise InlayError("card_other")
        label = await self._confirm(found)
        self._waited = True
        if label is not None and found.shown is not None:
            self._others[mark_of(found.shown)] = label
            return False
        self._take(found.shown)
        return True

    async def _open(self, found: FoundCard) -> InlayError | None:
        """Take the card up; why it went again, or None."""
        seen, guid = found.shown, self._ordered.guid
        has = None if seen is None else seen.guid
        session = self._readers.session(found)
        try:
            there = f"The card “{self._ordered.label}” is in the reader “{found.reader}”. Leave it there."
            await self._show(there, can_cancel=not self.changed)
            await session.open()
            key = self._key if self._key_is_needed else None
            asks = key is not None and key.asks_for_algorithm
            taken = await session.run(take_up, {guid, has}, hold=key is not None, keys=asks)
            if key is not None:
                await self._prove(session, taken.keys)
        except BaseException as error:
            self._proved = False
            await session.close()
            if isinstance(error, InlayError) and error.code in GONE:
                return error  # it went again: it is waited for again
            raise
        self._named = taken.application.algorithms & frozenset(KeyAlgorithm)
        self._chuid = "unread" if key is None else taken.chuid
        self._take(seen)
        self._session = session
        return None

    def _take(self, seen: Evidence | None) -> None:
        """Remember which card it is: with the order's GUID, or until that is written with the one that it has."""
        guid = self._ordered.guid
        has = None if seen is None else seen.guid
        able = None if seen is None else seen.capabilities
        serial = None if able is None else able.serial
        told = None if serial is None or self._renumbered else str(serial)
        wanted = None if self._ordered.identity is None else self._ordered.identity.serial
        self.serial = told if wanted in (None, told) else None
        self.imports = able is None or able.importing
        self.tells_keys = able is None or able.metadata
        self.may_reset = able is not None and able.version is not None
        self.pin_blocked = _is_blocked(seen)
        guids = frozenset({guid}) if has == guid else frozenset({guid, has})
        self.came_blank = self.came_blank if self._taken is not None else seen is not None and has is None
        if self._taken is not None and not self._resetting:
            guids &= self._taken.guids
        self._taken = WantedAgain(guids, serial, self._ordered.driver, any_guid=self._resetting)

    async def _prove(self, session: CardSession, known: Sequence[ManagementAlgorithm] | None = None) -> None:
        if self._key is not None and not self._proved:
            await self._key.prove(session, known, self._say_late)
            self._proved = True
            if self._said_late:
                self._said_late = False
                await self._show(f"The portal has answered. {self._leave}", can_cancel=not self.changed)

    async def _say_seen(self, text: str) -> None:
        """Say what is seen while the card is waited for, which may be given up at any time."""
        self._waited = True
        await self._show(f"{text} {_CLOSING}" if self.changed else text, can_cancel=True)

    async def _say_late(self) -> None:
        """Say that the portal is waited for, which may be given up at any time."""
        self._said_late = True
        text = f"The portal hasn't answered yet, and is waited for. {self._leave}"
        await self._show(f"{text} {_GIVING_UP}" if self.changed else text, can_cancel=True)

    @property
    def _leave(self) -> str:
        return f"Leave the card “{self._ordered.label}” in the reader."

    async def _show(self, text: str, *, can_cancel: bool) -> None:
        done, total = self._total
        await self._context.window.show_progress(Step.CARD.value, text, done, total, can_cancel=can_cancel)


def _is_blocked(seen: Evidence | None) -> bool:
    return seen is not None and seen.pin_tries == 0
