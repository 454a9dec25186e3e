"""A physical card in an order's hands, which a person may pull out and put back at any moment.

What was interrupted is done again once the same card is there: making or importing a key and writing are the same for
the order whether they happened once or twice. The same card is the one that was taken first, not one that would have
done as well. A PIN goes to a card again only when it was right before; one whose answer never came is for the person to
type again. A PUK goes again only where no try of it was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from agent.card_search import WantedAgain, WantedIdentity
from agent.pad_entry import PadEntry
from agent.pcsc import piv_objects, piv_pin, piv_reset, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import PUK, KeyAlgorithm
from agent.piv_card import ALGORITHMS, PivCard
from protocol.errors import InlayError
from protocol.messages import Step

if TYPE_CHECKING:
    from agent.card_search import Criterion, FoundCard
    from agent.card_session import CardSession
    from agent.management_proof import PortalKey
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pcsc.look import Evidence
    from protocol.messages import Algorithm, CardIdentity, CertificateRequest, Challenge

T = TypeVar("T")
Confirm = Callable[["FoundCard"], Awaitable[None]]

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
_CLOSING: Final = (
    "Without it the card stays half done, and has to be finished by starting again from the page."
)
_PUK_SENT: Final = 2
"""So often a PUK goes to a card that doesn't tell how many tries of it are left."""


@dataclass(frozen=True, slots=True)
class PhysicalCard:
    """Which card an order is about.

    Attributes:
        driver: who speaks to it.
        guid: the one it has, or gets.
        label: what the person calls it.
        identity: which card is to get the GUID; None: it has it.
    """

    driver: str
    guid: str
    label: str
    identity: CardIdentity | None = None

    @property
    def wanted(self) -> WantedIdentity:
        """Which card it may be before one was taken."""
        return WantedIdentity(self.guid, self.identity, self.driver)

    @property
    def by_number(self) -> bool:
        """Whether a person reads the number on the card where the card doesn't tell it."""
        return self.identity is not None and self.identity.printed is not None


class ReturningCard:
    """See ``agent.order_ports.KeyedCard``; close it in the end."""

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
        self._card: PivCard | None = None
        self._pad: PadEntry | None = None
        self._taken: WantedAgain | None = None
        self._waited = self._picked = False
        self.serial: str | None = None
        """what the card says its serial number is, decimal"""
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
        self._resetting = False
        self._named: frozenset[int] = frozenset()

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

    async def prove_key(self) -> None:
        """Have the portal prove the management key now, and again whenever the card was away."""
        self._key_is_needed = True
        await self.with_session(self._prove)

    async def verify(self, pin: bytearray) -> None:
        """VERIFY a PIN that a person has just typed: one try, sent once.

        Raises:
            InlayError: ``card_pin_…``; any of `GONE`: a try may have been spent.
        """
        await self.run(CardConnection.hold)  # one that went while the person typed is waited for before
        session = await self._present()
        try:
            await self._on(session).verify(pin)
        except InlayError:
            await self.let_go()  # nobody is waited for with a card that something was proved to
            raise

    async def verify_at_pad(self, warn: Callable[[int], str | None]) -> None:
        """VERIFY the PIN, typed at the keys of the reader, now and whenever the card wants it again.

        Args:
            warn: what has to be read before the next try, by how many are left.

        Raises:
            InlayError: ``pad_…``: the reader can't ask, or nobody types; ``card_pin_blocked``.
        """

        async def show(text: str) -> None:
            await self._show(text, can_cancel=not self.changed)

        self._pad, self._card = PadEntry(show, warn), None
        try:
            await self._piv(lambda card: card.verify(bytearray()))
        except InlayError:
            self._pad = self._card = None  # as before: another way may be asked for
            raise

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

    def has_its_guid(self) -> None:
        """The order's GUID was written: from here on no card without it is the one."""
        if self._taken is not None:
            self._taken = replace(self._taken, guids=frozenset({self._ordered.guid}))

    async def reset(self) -> bool:
        """Put a card whose PIN is blocked back to what its maker delivered, once, whenever it is torn out.

        Returns:
            Whether it is so now; False: its PUK isn't blocked, and it is as it was.

        Raises:
            InlayError: ``card_no_reset``, ``card_refused``; ``pcsc_…``.
        """
        self._resetting = True  # it may come back without the GUID that it had, or with another one
        if self._taken is not None:
            self._taken = replace(self._taken, any_guid=True)
        done = await self.run(piv_reset.reset)
        chuid = await self.run(piv_objects.read_chuid)
        has = None if chuid is None else chuid.guid.hex()
        self._card, self._resetting, self.pin_blocked = None, False, not done
        if self._taken is not None:
            self._taken = replace(self._taken, guids=frozenset({self._ordered.guid, has}), any_guid=False)
        return done

    async def let_go(self) -> None:
        """Release the card, reset if anything was proved to it."""
        session, self._session, self._proved = self._session, None, False
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """The order's work on it is over."""
        await self.let_go()

    # --- keys and certificates

    async def generate(self, slot: str, algorithm: Algorithm) -> None:
        """Make a key in a slot."""
        await self._piv(lambda card: card.generate(slot, algorithm))

    async def request(self, slot: str, subject: str, pin: bytearray, *, signs: bool) -> CertificateRequest:
        """Ask for a certificate."""
        return await self._piv(lambda card: card.request(slot, subject, pin, signs=signs))

    async def import_key(self, slot: str, pkcs8: bytearray) -> None:
        """Put a key that was made elsewhere into a slot."""
        await self._piv(lambda card: card.import_key(slot, pkcs8))

    async def set_pin(self, puk: bytearray, pin: bytearray) -> None:
        """Set a new PIN by the PUK. Where the answer never came it is sent again unless that has cost a try.

        Raises:
            InlayError: ``card_puk_…``, ``card_pin_form``; ``card_pin_unknown``: nobody knows whether the PUK was right.
        """
        before = await self.run(piv_pin.tries_left, PUK)
        sent = 0

        async def setting(session: CardSession) -> None:
            nonlocal sent
            if sent:
                left = await session.run(piv_pin.tries_left, PUK)
                if left is not None and before is not None and left < before:
                    raise InlayError("card_puk_wrong", tries=left)
                if left is None and sent == _PUK_SENT:
                    raise InlayError("card_pin_unknown")
            sent += 1
            await self._on(session).set_pin(puk, pin)

        await self.with_session(setting, forgetful=frozenset())

    async def change_puk(self, old: bytearray, new: bytearray) -> None:
        """Give the card another PUK: one try of the old one, sent once.

        Raises:
            InlayError: ``card_puk_wrong``, ``card_puk_blocked``, ``card_refused`` …; any of `GONE`: it isn't known
                whether it was done.
        """
        await self.run(CardConnection.hold)
        session = await self._present()
        try:
            await session.run(piv_pin.change, PUK, old, new)
        except InlayError as error:
            if error.code in GONE:
                await self.let_go()
            raise

    async def write_certificate(self, slot: str, der: bytes) -> None:
        """Write a certificate, and read it back."""
        await self._piv(lambda card: card.write_certificate(slot, der))

    async def certificate(self, slot: str) -> bytes | None:
        """A slot's certificate, DER."""
        return await self._piv(lambda card: card.certificate(slot))

    async def sign(self, slot: str, message: bytes, pin: bytearray) -> bytes:
        """Sign a message."""
        return await self._piv(lambda card: card.sign(slot, message, pin))

    async def sign_digest(self, slot: str, digest: bytes, pin: bytearray) -> bytes:
        """Sign a SHA-256 digest."""
        return await self._piv(lambda card: card.sign_digest(slot, digest, pin))

    async def answer(self, slot: str, challenge: Challenge, pin: bytearray) -> bytes:
        """The secret behind a challenge."""
        return await self._piv(lambda card: card.answer(slot, challenge, pin))

    async def _piv(self, work: Callable[[PivCard], Awaitable[T]]) -> T:
        async def on_card(session: CardSession) -> T:
            return await work(self._on(session))

        if self._pad is None:
            return await self.with_session(on_card)
        return await self._pad.until_typed(lambda: self.with_session(on_card))

    def _on(self, session: CardSession) -> PivCard:
        """The card in this session, which knows of its keys what it knew in the session before."""
        if self._card is None:
            self._card = PivCard(session, self._pad)
        else:
            self._card.move_to(session)
        return self._card

    # --- coming and going

    async def _present(self) -> CardSession:
        """The open session; waits for the card where there is none.

        Raises:
            InlayError: ``pcsc_…``: the card is there, and can't be opened; ``timeout``: it never came.
        """
        in_a_row = 0
        while self._session is None:
            self._waited = False
            gone = await self._open(await self._found())
            if gone is None:
                continue
            in_a_row = 0 if self._waited else in_a_row + 1
            if in_a_row == _IN_A_ROW:
                raise gone
        return self._session

    async def _found(self) -> FoundCard:
        """Wait for the card, no longer than the order lasts."""
        ordered, seconds = self._ordered, self._context.order.resume_within
        wanted: Criterion = self._taken or ordered.wanted
        window, back = self._context.window, self._taken is not None
        ask = self._picked and not self.told_apart  # it may be another one: who has picked it says so again
        waiting = self._readers.wait(
            window, wanted, ordered.label, self._say_seen, back=back, ask=ask, pick=ordered.by_number
        )
        try:
            async with asyncio.timeout(seconds):
                found = await self._context.guard(waiting)
        except TimeoutError:
            raise InlayError("timeout", seconds=seconds) from None
        self._picked = self._picked or found.picked
        self._waited = self._waited or found.picked
        told = self._taken is not None and self._taken.serial is not None
        named = told or (found.shown is not None and ordered.wanted.is_named_by(found.shown))
        if ordered.by_number and not named:
            await self._have_confirmed(found)
        return found

    async def _have_confirmed(self, found: FoundCard) -> None:
        """Have the person say that this card is the one; from then on none with another GUID is.

        Raises:
            InlayError: it isn't: ``user_cancelled``, ``card_of_other_object``; why the order ended.
        """
        if self._confirm is None:
            raise InlayError("card_other")
        await self._confirm(found)
        self._waited = True
        self._take(found.shown)

    async def _open(self, found: FoundCard) -> InlayError | None:
        """Take the card up; why it went again, or None."""
        seen, guid = found.shown, self._ordered.guid
        has = None if seen is None else seen.guid
        session = self._readers.session(found)
        try:
            there = f"The card “{self._ordered.label}” is in the reader “{found.reader}”. Leave it there."
            await self._show(there, can_cancel=not self.changed)
            await session.open()
            application = await session.run(piv_select.select)
            await _see_that_it_is(session, {guid, has})
            if self._key_is_needed:
                await self._prove(session)
        except BaseException as error:
            self._proved = False
            await session.close()
            if isinstance(error, InlayError) and error.code in GONE:
                return error  # it went again: it is waited for again
            raise
        self._named = application.algorithms & frozenset(KeyAlgorithm)
        self._take(seen)
        self._session = session
        return None

    def _take(self, seen: Evidence | None) -> None:
        """Remember which card it is: with the order's GUID, or until that is written with the one that it has."""
        guid = self._ordered.guid
        has = None if seen is None else seen.guid
        able = None if seen is None else seen.capabilities
        serial = None if able is None else able.serial
        self.serial = None if serial is None else str(serial)
        self.imports = able is None or able.importing
        self.tells_keys = able is None or able.metadata
        self.may_reset = able is not None and able.version is not None
        self.pin_blocked = seen is not None and seen.pin_tries == 0
        guids = frozenset({guid}) if has == guid else frozenset({guid, has})
        if self._taken is not None and not self._resetting:
            guids &= self._taken.guids
        self._taken = WantedAgain(guids, serial, self._ordered.driver, any_guid=self._resetting)

    async def _prove(self, session: CardSession) -> None:
        if self._key is not None and not self._proved:
            await self._key.prove(session)
            self._proved = True

    async def _say_seen(self, text: str) -> None:
        """Say what is seen while the card is waited for, which may be given up at any time."""
        self._waited = True
        await self._show(f"{text} {_CLOSING}" if self.changed else text, can_cancel=True)

    async def _show(self, text: str, *, can_cancel: bool) -> None:
        done, total = self._total
        await self._context.window.show_progress(Step.CARD.value, text, done, total, can_cancel=can_cancel)


async def _see_that_it_is(session: CardSession, guids: set[str | None]) -> None:
    """Between the look and the connection another card may have been put in.

    Raises:
        InlayError: ``pcsc_card_removed``: so it was.
    """
    chuid = await session.run(piv_objects.read_chuid)
    if (None if chuid is None else chuid.guid.hex()) not in guids:
        raise InlayError("pcsc_card_removed")
