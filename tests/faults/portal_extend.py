"""*Extend temporary card* at the real portal, of cards that are disturbed; and of one that has to be reset for it.

A card that proves itself (``docs/security.md``) proves itself by the key that a reset takes away, and shares nothing
with the portal from then on until it has another one. Wherever it is disturbed meanwhile a fresh order finishes it.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from sqlalchemy import select

from portal.processes import tasks
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.store.tables import CaCertificate, Card, ManagedCard
from tests.cards.simulated import SimulatedCard, factory_key
from tests.faults.portal_desk import Carried, PortalDesk
from tests.faults.tear_jobs import NEW_PIN, Answers, Position
from tests.faults.tear_judgement import holds
from tests.support.wired_server import BRINGS, kind

SLOTS: Final = ("9A", "9C", "9D")
RESET_INSTRUCTION: Final = 0xFB
_LONGER: Final = 3
_SET_KEY: Final = 0xFF + BRINGS
_AGREES: Final[tuple[None, None]] = (None, None)


class ExtendDesk(PortalDesk):
    """Cards of visitors.

    Attributes:
        ended: how each order ended at the portal.
    """

    def __init__(self, *parts: object) -> None:
        super().__init__(*parts)  # type: ignore[arg-type]
        self.ended: list[str] = []

    async def new_card(self) -> tuple[str, SimulatedCard]:
        """A card from its maker, and the object that stands for it at the portal: assigned to somebody."""
        kit = self._stage.kit
        card = self.card_from_its_maker()
        holder = await kit.person(f"visitor-{self.number}@example.org")
        label, serial = f"Visitor {self.number}", str(int.from_bytes(card.serial, "big"))
        view = await kit.services.start_process(self.olga, RequestTemporaryCard.name)
        await kit.services.next(self.olga, view.id, view.version, {"Label": [label], "Serial": [serial]})
        async with kit.database.read() as tx:
            found = (await tx.scalars(select(Card.id).where(Card.label == label))).one()
        await self.step(IssueTemporaryCard.name, found)
        await self.step(AssignTemporaryCard.name, found, Person=[holder.user.email])
        return found, card

    async def extend(self, found: str, card: SimulatedCard, at: Position | None = None) -> Carried:
        """Extend a card here; its holder types a new PIN, or the card's, again where it was away."""
        view = await self.step(ExtendTemporaryCard.name, found)
        first = view.facts["PIN"].startswith("chosen anew")
        typed: Answers = [(None, NEW_PIN), _AGREES, _AGREES, _AGREES]
        if not first:
            typed = [_AGREES, (NEW_PIN, None), (NEW_PIN, None)]
        carried = await self.carried_out(view, card, typed, at)
        self.ended.append(carried.end)
        if carried.end == "finished":
            await self.finish(view)
        return carried

    async def judge(self, encoded: int) -> list[str]:
        """What is wrong: every certificate that is good at the CA is on a card with its key; so many cards have all."""
        kit = self._stage.kit
        good = await kit.valid_at_ca()
        async with kit.database.read() as tx:
            rows = list(await tx.scalars(select(CaCertificate).where(~CaCertificate.own)))
        faults = [f"{row.serial} is on hold for ever" for row in rows if row.reason == "certificateHold"]
        at = [self._place(x509.load_der_x509_certificate(row.der)) for row in rows if row.request_id in good]
        if None in at or len(set(at)) != len(at):
            faults.append("a certificate is good that isn't on a card with its key")
        if len(at) != encoded * len(SLOTS):
            faults.append(f"{len(at)} certificates are good, and {encoded} cards encoded")
        return faults

    def _place(self, certificate: x509.Certificate) -> tuple[int, str] | None:
        """On which card it is, and in which slot, with its key."""
        found = [
            (number, slot)
            for number, card in enumerate(self.cards)
            for slot in SLOTS
            if holds(card, slot, certificate)
        ]
        if len(found) != 1:
            return None
        [(number, slot)] = found
        _, key = self.cards[number].keys.get(int(slot, 16), (None, None))
        return found[0] if key is not None and key.public_key() == certificate.public_key() else None

    def tries_left(self) -> list[str]:
        """What is wrong with the tries of PIN and PUK: no card has lost one."""
        left = [(card.pin_left, card.puk_left) for card in self.cards]
        all_of_them = [(card.profile.pin_tries, card.profile.puk_tries) for card in self.cards]
        return [] if left == all_of_them else [f"tries went down to {left}"]


class ResetDesk(ExtendDesk):
    """One card, which is blocked again and again, and reset for its next encoding."""

    async def open(self) -> None:
        """Have a card, too, that proves itself by a key of its own."""
        await super().open()
        self._found, self._card = await self.new_card()
        assert (await self.extend(self._found, self._card)).end == "finished"
        assert (await self._managed()).mutual

    async def positions(self) -> range:
        """The APDUs from the reset to the end, undisturbed: the card gets its new management key late.

        Certificates are of different lengths, so another order may have some fewer: the last ones are left out.
        """
        await self._blocked()
        carried = await self.extend(self._found, self._card)
        assert carried.end == "finished", carried
        kinds = [kind(apdu) for apdu in carried.apdus]
        reset = kinds.index(RESET_INSTRUCTION)
        assert _SET_KEY in kinds[reset : len(kinds) - _LONGER]
        return range(reset + 1, len(kinds) + 1 - _LONGER)

    async def run(self, at: Position | None = None) -> tuple[str, list[str]]:
        """How a position ended, and what is wrong then; None: the card isn't disturbed."""
        await self.sit_down()
        before = await self._blocked()
        carried = await self.extend(self._found, self._card, at)
        faults, end = list(carried.faults), carried.end
        if end != "finished":
            end = f"{end}, {'card half done' if carried.half_done else 'card as it was'}"
            if carried.half_done:
                faults += await self.judge(0)
            elif _contents(self._card) != before:
                faults.append(
                    "it was undone before it said that it changes the card, and the card is changed"
                )
            fresh = await self.extend(self._found, self._card)
            if fresh.end != "finished":
                faults.append(f"a fresh order couldn't finish the card: {fresh.error}")
                await self._start_over()
                return end, faults
        return end, faults + await self._as_it_has_to_be()

    async def again(self) -> Carried:
        """Extend the card as it is."""
        return await self.extend(self._found, self._card)

    async def _blocked(self) -> tuple[object, ...]:
        """Somebody blocks the card, and an order finds it out; what is on it."""
        self._card.pin_left = self._card.puk_left = 0
        before = _contents(self._card)
        found_out = await self.extend(self._found, self._card)
        assert (found_out.end, found_out.error) == ("undone", "card_both_blocked"), found_out
        assert _contents(self._card) == before
        return before

    async def _as_it_has_to_be(self) -> list[str]:
        """What is wrong with a card that was finished."""
        card, managed = self._card, await self._managed()
        row, faults = await self.row(self._found), await self.judge(1) + self.tries_left()
        if not managed.mutual:
            faults.append("the portal doesn't ask the card to prove itself any more")
        if card.keys_by_algorithm == {each: factory_key(each) for each in card.keys_by_algorithm}:
            faults.append("the card has its maker's management key")
        kept = row.sealed_puk
        keys = self._stage.kit.portal.context.keys
        if kept is None or bytes(keys.unseal(kept, tasks.puk_label(row.id))) != card.puk:
            faults.append("the portal hasn't the card's PUK")
        if card.pin.rstrip(b"\xff") != NEW_PIN:
            faults.append("the card hasn't the PIN that its holder has chosen")
        return faults

    async def _managed(self) -> ManagedCard:
        async with self._stage.kit.database.read() as tx:
            return await tx.get_one(ManagedCard, self._found)

    async def _start_over(self) -> None:
        """Another card, where this one is lost."""
        self.cards = []
        self._found, self._card = await self.new_card()
        await self.extend(self._found, self._card)


def _contents(card: SimulatedCard) -> tuple[object, ...]:
    return dict(card.objects), dict(card.keys), card.pin, card.puk, dict(card.keys_by_algorithm)
