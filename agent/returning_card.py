"""A physical card in an order's hands, which a person may pull out and put back at any moment.

Making or importing a key and writing are the same for the order whether they happened once or twice, so they are done
again where they were interrupted (``agent.awaited_card``). A PIN goes to a card again only when it was right before;
one whose answer never came is for the person to type again. A PUK goes again only where no try of it was lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from agent.awaited_card import GONE, AwaitedCard
from agent.card_search import CardMark, WantedIdentity
from agent.pad_entry import PadEntry
from agent.pcsc import piv_objects, piv_pin, piv_reset, piv_select
from agent.pcsc.connection import CardConnection
from agent.pcsc.piv_names import PUK
from agent.piv_card import NO_POLICIES, PivCard
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.card_session import CardSession
    from agent.pcsc.piv_objects import Chuid
    from agent.pcsc.piv_policies import Policies
    from protocol.messages import Algorithm, CardIdentity, CertificateRequest, Challenge

T = TypeVar("T")
NO_OTHERS: Final[Mapping[CardMark, str]] = MappingProxyType({})
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

    def wanted(self, others: Mapping[CardMark, str] = NO_OTHERS) -> WantedIdentity:
        """Which card it may be before one was taken, but for those that the portal has said are others."""
        return WantedIdentity(self.guid, self.identity, self.driver, others)

    @property
    def unnamed(self) -> bool:
        """Whether it is for the portal to say if a card may be it, whatever the card tells."""
        return self.identity is not None and self.identity.unnamed

    @property
    def by_number(self) -> bool:
        """Whether a person reads the number on the card where the card doesn't tell it."""
        return self.identity is not None and self.identity.printed is not None


class ReturningCard(AwaitedCard):
    """See ``agent.order_ports.KeyedCard``; close it in the end."""

    _card: PivCard | None = None
    """what is known of its keys"""
    _pad: PadEntry | None = None
    """asks for the PIN at the reader's keys"""
    policies: Mapping[int, Policies] = NO_POLICIES
    """slot to what its keys get beyond the standard; set before its keys are worked on"""
    has_written: bool = False
    """whether it has taken a certificate"""

    # --- what is proved to it, and what becomes of its GUID

    async def prove_key(self) -> None:
        """Have the portal prove the management key now, and again whenever the card was away."""
        self._key_is_needed = True
        await self.with_session(self._prove)

    def chuid(self, card: CardConnection) -> Chuid | None:
        """Its CHUID, in the card's thread: as it was read when the card was taken up, if it has been held ever since.

        Raises:
            InlayError: as `piv_objects.read_chuid`.
        """
        return piv_objects.read_chuid(card) if self._chuid == "unread" else self._chuid

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

    async def verify_at_pad(self) -> None:
        """VERIFY the PIN, typed at the keys of the reader, now and whenever the card wants it again.

        Raises:
            InlayError: ``pad_…``: the reader can't ask, or nobody types; ``card_pin_blocked``.
        """

        async def show(text: str) -> None:
            await self._show(text, can_cancel=not self.changed)

        self._pad, self._card = PadEntry(show), None
        try:
            await self._piv(lambda card: card.verify(bytearray()))
        except InlayError:
            self._pad = self._card = None  # as before: another way may be asked for
            raise

    def has_its_guid(self) -> None:
        """The order's GUID was written: from here on no card without it is the one."""
        self._chuid = "unread"
        if self._taken is not None:
            self._taken = replace(self._taken, guids=frozenset({self._ordered.guid}))

    async def reset(self) -> bool:
        """Put a card whose PIN is blocked back to what its maker delivered, once, whenever it is torn out.

        Returns:
            Whether it is so now; False: its PUK isn't blocked, and it is as it was.

        Raises:
            InlayError: ``card_no_reset``, ``card_refused``; ``pcsc_…``.
        """
        self._took_puk = False
        self._resetting = True  # it may come back without the GUID that it had, or with another one
        if self._taken is not None:
            self._taken = replace(self._taken, any_guid=True)
        done = await self.run(piv_reset.reset)
        self._chuid = "unread"
        chuid = await self.run(piv_objects.read_chuid)
        has = None if chuid is None else chuid.guid.hex()
        self._card, self._resetting, self.pin_blocked = None, False, not done
        self._proved = self._proved and not done  # it has its maker's management key now
        if self._taken is not None:
            self._taken = replace(self._taken, guids=frozenset({self._ordered.guid, has}), any_guid=False)
        if done:
            await self._numbered_anew()
        return done

    async def _numbered_anew(self) -> None:
        """See whether the reset has given the card another serial number: by that it is told from other cards now.

        The portal knows it by the one that it had, and isn't told another.
        """
        taken = self._taken
        if taken is None or taken.serial is None:
            return
        serial = await self.run(piv_select.serial_number)
        if serial not in (None, taken.serial):
            self._taken, self._renumbered, self.serial = replace(taken, serial=serial), True, None

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

        A PUK that the card has just taken, by `change_puk`, can't cost one.

        Raises:
            InlayError: ``card_puk_…``, ``card_pin_form``; ``card_pin_unknown``: nobody knows whether the PUK was right.
        """
        sure = self._took_puk
        before = None if sure else await self.run(piv_pin.tries_left, PUK)
        sent = 0

        async def setting(session: CardSession) -> None:
            nonlocal sent
            if sent and not sure:
                left = await session.run(piv_pin.tries_left, PUK)
                if left is not None and before is not None and left < before:
                    raise InlayError("card_puk_wrong", tries=left)
                if left is None and sent == _PUK_SENT:
                    raise InlayError("card_pin_unknown")
            sent += 1
            await self._on(session).set_pin(puk, pin)

        await self.with_session(setting, forgetful=frozenset())

    async def change_puk(self, old: bytearray, new: bytearray) -> None:
        """Give the card another PUK: one try of the old one, sent once, to a card that has just been asked something.

        Raises:
            InlayError: ``card_puk_wrong``, ``card_puk_blocked``, ``card_refused`` …; any of `GONE`: it isn't known
                whether it was done.
        """
        session = await self._present()
        try:
            await session.run(piv_pin.change, PUK, old, new)
        except InlayError as error:
            if error.code in GONE:
                await self.let_go()
            raise
        self._took_puk = True

    async def write_certificate(self, slot: str, der: bytes) -> None:
        """Write a certificate, and read it back."""
        await self._piv(lambda card: card.write_certificate(slot, der))
        self.has_written = True

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
            self._card = PivCard(session, self._pad, self.policies)
        else:
            self._card.move_to(session)
        return self._card
