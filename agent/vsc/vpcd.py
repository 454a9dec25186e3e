"""Put a virtual card into a slot of vpcd, pcscd's virtual reader, and keep it there.

vpcd listens, the card connects (its reverse mode makes pcscd abort). One connection is
`agent.vsc.vpcd_session`'s.

When pcscd goes away (restart, upgrade, auto-exit) the connection ends, and the card is attached again
as soon as somebody listens. Timers run only while nobody does.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from agent.vsc.card import VirtualCard
from agent.vsc.state import Lifecycle
from agent.vsc.vpcd_session import Session, cancelled
from protocol.errors import InlayError

LOOPBACK: Final = "127.0.0.1"
_FIRST_DELAY, _LAST_DELAY = 0.1, 5.0  # seconds between attempts while pcscd is away

_log = logging.getLogger(__name__)

Confirm = Callable[[str], Awaitable[bool]]
"""Reads a card's CHUID back through PC/SC: GUID in, whether a reader shows that very card."""


class AttachmentState(enum.StrEnum):
    """Where an attachment stands."""

    WAITING = "waiting"
    """nobody listens at the port: pcscd isn't running, or has no virtual reader"""
    CONNECTED = "connected"
    """vpcd took the connection, but another card may be in the slot before us"""
    PRESENT = "present"
    """pcscd talks to our card, and where a check was asked for, it was passed"""
    FOREIGN = "foreign"
    """the card that PC/SC shows isn't ours: detached"""
    UNCHECKED = "unchecked"
    """the check itself failed: detached"""
    CLOSED = "closed"
    """detached on purpose"""


_ENDS: Final = frozenset({AttachmentState.FOREIGN, AttachmentState.UNCHECKED, AttachmentState.CLOSED})


class CardNotActive(InlayError):
    """A card that is still being made is never shown to other programs."""

    def __init__(self, card_id: str) -> None:
        super().__init__("wrong_state", method="attach", state=Lifecycle.BEING_MADE.value)
        self.card_id = card_id


class Attachment:
    """A card in a slot, for as long as this object isn't closed.

    Attributes:
        card: the card.
        port: vpcd's TCP port on 127.0.0.1; it says which slot.
    """

    def __init__(
        self,
        card: VirtualCard,
        port: int,
        *,
        confirm: Confirm | None = None,
        on_state: Callable[[AttachmentState], None] | None = None,
        pin_lapse: float | None = None,
    ) -> None:
        """Prepare; `start` attaches.

        Args:
            card: an active card.
            port: vpcd's port.
            confirm: asked each time the card has become present; False detaches for good.
            on_state: told of every change of `state`, on the event loop.
            pin_lapse: seconds without use after which the card forgets that its PIN was typed; None: never.

        Raises:
            CardNotActive: the card is still being made.
        """
        if card.lifecycle is not Lifecycle.ACTIVE:
            raise CardNotActive(card.card_id)
        self.card = card
        self.port = port
        self._confirm = confirm
        self._on_state = on_state
        self._pin_lapse = pin_lapse
        self._session: Session | None = None
        self._state = AttachmentState.WAITING
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> AttachmentState:
        """Where it stands now."""
        return self._state

    def start(self) -> None:
        """Begin, on the running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name=f"vpcd {self.port}")

    async def wait_for(self, *states: AttachmentState) -> AttachmentState:
        """Wait until the state is one of these, and return it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._state in states)
            return self._state

    async def close(self) -> None:
        """Take the card out of its slot, when the command under way has been answered.

        Nobody is logged in on it afterwards.
        """
        if self._session is not None:
            await self._session.settle()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await asyncio.to_thread(self.card.power_off)
        if self._state not in _ENDS:
            await self._enter(AttachmentState.CLOSED)

    async def _keep(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                connection = await _connect(self.port)
            except OSError:
                served = False
            else:
                with connection:
                    served = await self._serve(connection)
                await asyncio.to_thread(self.card.power_off)
            if self._state in _ENDS:
                break
            await self._enter(AttachmentState.WAITING)
            delay = _FIRST_DELAY if served else delay
            await asyncio.sleep(delay)  # also when vpcd takes a connection and drops it at once
            delay = min(2 * delay, _LAST_DELAY)

    async def _serve(self, connection: socket.socket) -> bool:
        """Answer until the connection ends or PC/SC shows another card; whether pcscd talked to it."""
        await self._enter(AttachmentState.CONNECTED)
        session = self._session = Session(self.card, connection, pin_lapse=self._pin_lapse)
        talking = asyncio.create_task(session.run())
        present = asyncio.create_task(self._become_present(session))
        try:
            await asyncio.wait({talking, present}, return_when=asyncio.FIRST_COMPLETED)
            if present.done() and present.result():
                await asyncio.wait({talking})
            if talking.done():
                talking.result()
        except (OSError, EOFError):
            _log.info("vpcd on port %d went away", self.port)
        finally:
            self._session = None
            await cancelled(present, talking)
        return session.seen.is_set()

    async def _become_present(self, session: Session) -> bool:
        """Wait until pcscd talks to the card, and have it checked; False: another card answers."""
        await session.seen.wait()
        end = await self._checked()
        await self._enter(end)
        return end is AttachmentState.PRESENT

    async def _checked(self) -> AttachmentState:
        if self._confirm is None:
            return AttachmentState.PRESENT
        try:
            ours = await self._confirm(self.card.guid.hex())
        except Exception as error:
            # a card that nobody could check isn't shown; its text may quote a reader's bytes
            _log.critical("the check of the card on port %d failed: %s", self.port, type(error).__name__)
            return AttachmentState.UNCHECKED
        return AttachmentState.PRESENT if ours else AttachmentState.FOREIGN

    async def _enter(self, state: AttachmentState) -> None:
        async with self._changed:
            if state is self._state:
                return
            self._state = state
            self._changed.notify_all()
        if self._on_state is not None:
            self._on_state(state)


def attach(
    card: VirtualCard,
    port: int,
    *,
    confirm: Confirm | None = None,
    on_state: Callable[[AttachmentState], None] | None = None,
    pin_lapse: float | None = None,
) -> Attachment:
    """Attach a card to vpcd's slot at a port of 127.0.0.1, and keep it there until closed.

    Args:
        card: an active card.
        port: vpcd's TCP port.
        confirm: see `Confirm`; None: present as soon as pcscd talks to the card.
        on_state: told of every change.
        pin_lapse: seconds until an unused PIN is forgotten; None: never.

    Returns:
        The attachment, started.

    Raises:
        CardNotActive: the card is still being made.
    """
    attachment = Attachment(card, port, confirm=confirm, on_state=on_state, pin_lapse=pin_lapse)
    attachment.start()
    return attachment


async def _connect(port: int) -> socket.socket:
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (LOOPBACK, port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection
