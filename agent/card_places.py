"""Puts active cards into virtual readers, checks through PC/SC that it is they who answer there, takes them out.

A PC/SC context is opened first and kept open while a card is in a reader: where pcscd is started on demand that
starts it, and keeps it from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.order_ports import Shown
from agent.pcsc import chuid, scard
from agent.pcsc.slots import VirtualSlot, read_slots
from agent.vsc.vpcd import Attachment, AttachmentState, Confirm, attach
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.vsc.card import VirtualCard

_LOG = logging.getLogger(__name__)

_PRESENT_SECONDS: Final = 8.0
"""How long pcscd may take to see a card; it looks every 400 ms."""
_LOOKS: Final = 40
_LOOK_PAUSE: Final = 0.1
_FIRST_RETRY, _LAST_RETRY = 0.5, 5.0
_PASSING: Final = frozenset({"pcsc_no_service", "pcsc_failed"})
"""What a service that ends in the middle, or isn't back yet, is told by."""
_AWAY_SECONDS: Final = 120.0
"""How long a service that was away when a card was to be shown is looked for."""

_PROBLEMS: Final = {
    AttachmentState.FOREIGN: "pcsc_foreign_card",
    AttachmentState.UNCHECKED: "pcsc_foreign_card",
    AttachmentState.WAITING: "pcsc_no_service",
}


class _Place(NamedTuple):
    slot: VirtualSlot
    attachment: Attachment


class CardPlaces:
    """Which card is in which virtual reader."""

    def __init__(self, slots: Callable[[], list[VirtualSlot]] = read_slots) -> None:
        """Use the slots that pcscd is configured with."""
        self._slots = slots
        self._places: dict[str, _Place] = {}
        self._problems: dict[str, InlayError] = {}
        self._held = scard.HeldContext()
        self._placing = asyncio.Lock()
        self._waking: asyncio.Task[None] | None = None
        self._later: dict[str, asyncio.Task[None]] = {}

    async def show(self, card: VirtualCard) -> Shown:
        """Put a card into a free reader, where it isn't in one; never raises for want of PC/SC."""
        async with self._placing:
            if card.card_id not in self._places:
                self._problems.pop(card.card_id, None)
                try:
                    await self._place(card)
                except InlayError as error:
                    _LOG.warning("card %s is in no reader: %s", card.card_id, error.code)
                    self._problems[card.card_id] = error
                    self._try_later(card, error)
        return await self.where(card.card_id)

    async def where(self, card_id: str) -> Shown:
        """How a card stands now."""
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

    async def hide(self, card_id: str) -> None:
        """Take a card out of its reader; harmless when it is in none."""
        async with self._placing:
            place = self._places.pop(card_id, None)
            self._problems.pop(card_id, None)
            if place is not None:
                await place.attachment.close()
            if not self._places:
                await asyncio.to_thread(self._held.release)

    async def close(self) -> None:
        """Take all cards out."""
        for task in (self._waking, *self._later.values()):
            if task is not None:
                task.cancel()
        for card_id in list(self._places):
            await self.hide(card_id)
        await asyncio.to_thread(self._held.release)

    def _try_later(self, card: VirtualCard, error: InlayError) -> None:
        """A service that is just being restarted is waited for, a while; one that isn't there is not."""
        if error.code not in _PASSING or card.card_id in self._later:
            return
        task = asyncio.create_task(self._place_later(card))
        self._later[card.card_id] = task
        task.add_done_callback(lambda _: self._later.pop(card.card_id, None))

    async def _place_later(self, card: VirtualCard) -> None:
        pause = _FIRST_RETRY
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AWAY_SECONDS):
                while self._problems.get(card.card_id) is not None:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LAST_RETRY)
                    await self.show(card)

    async def _place(self, card: VirtualCard) -> None:
        slots = await asyncio.to_thread(self._slots)
        if not slots:
            raise InlayError("pcsc_no_virtual_reader")
        await asyncio.to_thread(self._held.ensure)
        readers = await asyncio.to_thread(scard.list_readers)
        if not any(slot.is_reader(reader.name) for slot in slots for reader in readers):
            raise InlayError("pcsc_no_virtual_reader")
        mine = {place.slot.port for place in self._places.values()}
        for slot in slots:
            taken = any(reader.present and slot.is_reader(reader.name) for reader in readers)
            if slot.port in mine or taken:
                continue
            if await self._attach(card, slot):
                return
        raise InlayError("pcsc_no_free_slot")

    async def _attach(self, card: VirtualCard, slot: VirtualSlot) -> bool:
        """Attach to one slot; False when nobody listens there or another card came first."""
        attachment = attach(
            card, slot.port, confirm=_confirm_in(slot), on_state=lambda state: self._changed(card, state)
        )
        ends = (AttachmentState.PRESENT, AttachmentState.FOREIGN, AttachmentState.UNCHECKED)
        try:
            async with asyncio.timeout(_PRESENT_SECONDS):
                state = await attachment.wait_for(*ends)
        except TimeoutError:
            await attachment.close()
            return False
        except BaseException:
            await attachment.close()
            raise
        if state is not AttachmentState.PRESENT:
            await attachment.close()
            raise InlayError("pcsc_foreign_card")
        self._places[card.card_id] = _Place(slot, attachment)
        _LOG.info("card %s is in the reader at port %d", card.card_id, slot.port)
        return True

    def _changed(self, card: VirtualCard, state: AttachmentState) -> None:
        """After a reader was there, and went: see that the service comes back, where that is possible."""
        if state is AttachmentState.FOREIGN:
            _LOG.error("another card answers in the place of card %s: it was taken out", card.card_id)
        idle = self._waking is None or self._waking.done()
        if state is AttachmentState.WAITING and card.card_id in self._places and idle:
            self._waking = asyncio.create_task(self._wake_service())

    async def _wake_service(self) -> None:
        pause = _FIRST_RETRY
        while True:
            try:
                await asyncio.to_thread(self._held.ensure)
            except InlayError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_RETRY)
            else:
                return


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
