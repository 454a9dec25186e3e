"""Puts active cards into virtual readers, checks through PC/SC that it is they who answer there, takes them out.

A PC/SC context is opened first and kept open while a card is in a reader: where pcscd is started on demand that
starts it, and keeps it from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from agent import peer
from agent.pcsc import chuid, scard
from agent.pcsc.slots import VirtualSlot, read_slots
from agent.virtual_card_ports import Shown
from agent.vsc.vpcd import Attachment, AttachmentState, Confirm, attach
from agent.vsc.vpcd_session import cancelled
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.vsc.card import VirtualCard

_LOG = logging.getLogger(__name__)

_PRESENT_SECONDS: Final = 8.0
"""How long pcscd may take to see a card; it looks every 400 ms."""
_LOOKS: Final = 40
_LOOK_PAUSE: Final = 0.1
_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0
_FREED_RETRY: Final = 0.5
"""pcscd shows a slot as taken for up to 400 ms after its card went."""
_SERVICE_RETRY: Final = 5.0
"""Seconds between attempts while a card is missing, or the service away. Nothing is missing: no timer."""

_PROBLEMS: Final = {
    AttachmentState.FOREIGN: "pcsc_foreign_card",
    AttachmentState.UNCHECKED: "pcsc_foreign_card",
    AttachmentState.WAITING: "pcsc_no_service",
}
_OUT: Final = (AttachmentState.FOREIGN, AttachmentState.UNCHECKED)
_ENDED: Final = (*_OUT, AttachmentState.CLOSED)


class _Place(NamedTuple):
    slot: VirtualSlot
    attachment: Attachment


class CardPlaces:
    """Which card is in which virtual reader, and why one that belongs there isn't.

    A card that was shown once belongs into a reader until it is hidden. While one is missing, it is tried again
    from time to time: the service comes back, a reader is installed, another user's card frees a slot.
    """

    def __init__(
        self,
        slots: Callable[[], list[VirtualSlot]] = read_slots,
        *,
        pin_lapse: float | None = None,
        away: InlayError | None = None,
    ) -> None:
        """Use the slots that pcscd is configured with.

        Args:
            slots: reads them.
            pin_lapse: seconds without use after which a card forgets that its PIN was typed; None: never.
            away: why no card may be in a reader yet, until `readmit`.
        """
        self._slots = slots
        self._pin_lapse = pin_lapse
        self._wanted: dict[str, VirtualCard] = {}
        self._gone: set[str] = set()
        self._places: dict[str, _Place] = {}
        self._problems: dict[str, InlayError] = {}
        self._away = away
        self._leaving = asyncio.Event()
        self._held = scard.HeldContext()
        self._placing = asyncio.Lock()
        self._waking: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._freed = asyncio.Event()

    async def show(self, card: VirtualCard) -> Shown:
        """Put a card into a free reader, where it isn't in one; never raises for want of PC/SC."""
        async with self._placing:
            if card.card_id not in self._gone:
                self._wanted[card.card_id] = card
                await self._put(card)
        return await self.where(card.card_id)

    async def where(self, card_id: str) -> Shown:
        """How a card stands now."""
        if self._away is not None and card_id in self._wanted:
            return Shown(None, self._away)
        place = self._places.get(card_id)
        if place is None:
            return Shown(None, self._problems.get(card_id))
        state = place.attachment.state
        if state in _PROBLEMS:
            return Shown(None, InlayError(_PROBLEMS[state]))
        with contextlib.suppress(InlayError):
            for reader in await asyncio.to_thread(scard.list_readers):
                if place.slot.is_reader(reader.name):
                    return Shown(reader.name)
        return Shown(None, InlayError("pcsc_no_service"))

    async def hide(self, card_id: str, *, for_good: bool = False) -> None:
        """Take a card out of its reader; harmless when it is in none.

        Args:
            card_id: the card.
            for_good: it is going to be removed: who is about to show it shows nothing.
        """
        async with self._placing:
            if for_good:
                self._gone.add(card_id)
            self._wanted.pop(card_id, None)
            self._problems.pop(card_id, None)
            await self._take_out(card_id)
            if not self._places:
                await asyncio.to_thread(self._held.release)

    async def withdraw(self, why: InlayError) -> None:
        """Take all cards out, those that come later too, until `readmit`; operations under way end first."""
        self._away = why
        self._leaving.set()
        self._freed.set()  # who waits to try again needn't
        # before the lock: a PC/SC service that hangs may hold up who has it, and no card stays for that
        await asyncio.gather(*(place.attachment.close() for place in self._places.values()))
        async with self._placing:
            if self._away is None:  # somebody came back meanwhile
                await self._put_all()
                return
            for card_id in list(self._places):
                await self._take_out(card_id)
            await asyncio.to_thread(self._held.release)

    async def readmit(self) -> None:
        """Put the cards that were taken out by `withdraw` into readers again; harmless when there are none."""
        self._away = None
        self._leaving.clear()
        async with self._placing:
            await self._put_all()

    async def close(self) -> None:
        """Take all cards out."""
        self._leaving.set()
        for task in (self._waking, self._returning):
            if task is not None:
                await cancelled(task)
        for card_id in list(self._wanted):
            await self.hide(card_id)
        await asyncio.to_thread(self._held.release)

    # --- inside; what changes places is called under the lock

    async def _put_all(self) -> None:
        for card in list(self._wanted.values()):
            await self._put(card)

    async def _put(self, card: VirtualCard) -> None:
        place = self._places.get(card.card_id)
        if place is not None and place.attachment.state in _ENDED:
            await self._take_out(card.card_id)
        elif place is not None:
            return
        before = self._problems.pop(card.card_id, None)
        if self._away is not None:
            return
        try:
            await self._place(card)
        except InlayError as error:
            if before is None or before.code != error.code:
                _LOG.warning("card %s is in no reader: %s", card.card_id, error.code)
            self._problems[card.card_id] = error
            self._try_later()

    async def _take_out(self, card_id: str) -> None:
        place = self._places.get(card_id)
        if place is not None:
            await place.attachment.close()  # who is cancelled here finds it, and can close it again
            self._places.pop(card_id, None)
            self._freed.set()

    def _try_later(self) -> None:
        if not _runs(self._returning):
            self._returning = asyncio.create_task(self._bring_back())

    def has_own_in(self, reader: str) -> bool:
        """Whether one of these cards is in a reader, by its PC/SC name."""
        return any(place.slot.is_reader(reader) for place in list(self._places.values()))

    async def _bring_back(self) -> None:
        """Try to show what is missing, until nothing is; at once when a slot of ours becomes free."""
        pause = _FIRST_RETRY
        while missing := self._missing():
            self._freed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._freed.wait()
            pause = _FREED_RETRY if self._freed.is_set() else min(2 * pause, _LAST_RETRY)
            for card in missing:
                async with self._placing:
                    if self._wanted.get(card.card_id) is card:
                        await self._put(card)

    def _missing(self) -> list[VirtualCard]:
        if self._away is not None:
            return []
        return [
            card
            for name, card in self._wanted.items()
            if name not in self._places or self._places[name].attachment.state in _ENDED
        ]

    async def _place(self, card: VirtualCard) -> None:
        slots = await asyncio.to_thread(self._slots)
        if not slots:
            raise InlayError("pcsc_no_virtual_reader")
        await asyncio.to_thread(self._held.ensure)
        readers = await asyncio.to_thread(scard.list_readers)
        seen = [slot for slot in slots if any(slot.is_reader(reader.name) for reader in readers)]
        if not seen:
            raise InlayError("pcsc_no_virtual_reader")
        mine = {place.slot.port for place in self._places.values()}
        users = await asyncio.to_thread(peer.clients_of, [slot.port for slot in seen])
        for slot in seen:
            taken = any(reader.present and slot.is_reader(reader.name) for reader in readers)
            # a second card at a port waits behind the first, for as long as that one likes
            if slot.port in mine or slot.port in users or taken:
                continue
            if await self._attach(card, slot):
                return
        own = sum(user == os.geteuid() for user in users.values())
        raise InlayError("pcsc_no_free_slot", count=len(seen), own=own, others=len(seen) - own)

    async def _attach(self, card: VirtualCard, slot: VirtualSlot) -> bool:
        """Attach to one slot; False when nobody listens there or another card came first."""
        attachment = attach(
            card,
            slot.port,
            confirm=_confirm_in(slot),
            on_state=lambda state: self._changed(card, state),
            pin_lapse=self._pin_lapse,
        )
        try:
            async with asyncio.timeout(_PRESENT_SECONDS):
                state = await self._settled(attachment)
        except TimeoutError:
            await attachment.close()
            return False
        except BaseException:
            await attachment.close()
            raise
        if state is not AttachmentState.PRESENT:
            await attachment.close()
            raise self._away or InlayError("pcsc_foreign_card")
        self._places[card.card_id] = _Place(slot, attachment)
        _LOG.info("card %s is in the reader at port %d", card.card_id, slot.port)
        return True

    async def _settled(self, attachment: Attachment) -> AttachmentState:
        """What became of an attachment; waits no longer when all cards have to go."""
        leaving = asyncio.create_task(self._leaving.wait())
        settled = asyncio.create_task(attachment.wait_for(AttachmentState.PRESENT, *_OUT))
        try:
            await asyncio.wait({leaving, settled}, return_when=asyncio.FIRST_COMPLETED)
            return attachment.state
        finally:
            await cancelled(leaving, settled)

    def _changed(self, card: VirtualCard, state: AttachmentState) -> None:
        """After a reader was there: the service went, and is to come back; or another card took the slot."""
        if card.card_id not in self._places:
            return
        if state in _OUT:
            _LOG.error("another card answers in the place of card %s: it was taken out", card.card_id)
            self._try_later()
        elif state is AttachmentState.WAITING and not _runs(self._waking):
            self._waking = asyncio.create_task(self._wake_service())

    async def _wake_service(self) -> None:
        pause = _FIRST_RETRY
        while self._places:
            try:
                await asyncio.to_thread(self._held.ensure)
            except InlayError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _SERVICE_RETRY)
            else:
                return


def _runs(task: asyncio.Task[None] | None) -> bool:
    return task is not None and not task.done()


def _confirm_in(slot: VirtualSlot) -> Confirm:
    """Asks PC/SC whether the card in a slot is the one with this GUID."""

    async def confirm(guid: str) -> bool:
        problem = InlayError("pcsc_card_removed")
        for _ in range(_LOOKS):
            try:
                for reader in await asyncio.to_thread(scard.list_readers):
                    if reader.present and slot.is_reader(reader.name):
                        return await asyncio.to_thread(chuid.shows, reader.name, guid)
            except InlayError as error:  # pcscd is still getting to know the card
                problem = error
            await asyncio.sleep(_LOOK_PAUSE)
        raise problem

    return confirm
