"""This user's virtual cards: made for orders, shown in readers, removed; see ``agent.virtual_card_ports.Cards``.

One folder for each storage level. What changes a card runs in that card's own worker thread, one thing after
the other: a removal waits for whatever is still going on, and nothing is written after it.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from agent.card_rows import Standing, card_row
from agent.card_shelf import CardShelf, ShelvedCard
from agent.journal_cards import JournalledCard
from agent.long_pin import card_pin
from agent.made_card import MadeCard, facts_of
from agent.start_over import StartOver
from agent.virtual_card_ports import CardFacts, CardOwner, Shown
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.state import Lifecycle
from protocol.errors import InlayError
from protocol.messages import Algorithm, CardGeneration, PinPolicy, StorageLevel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.card_places import CardPlaces
    from agent.device import Device
    from agent.journal_access import JournalAccess
    from agent.keys_system import DeviceSecret
    from agent.session_ports import SessionWatching

_LOG = logging.getLogger(__name__)

_MOST_TOLD: Final = 32
"""Cards in one claim; by chance which, so that none is always left out."""
SOFTWARE_ALGORITHMS: Final = frozenset({Algorithm.RSA_2048, Algorithm.P_256})

P = ParamSpec("P")
T = TypeVar("T")


class VirtualCards:
    """The cards, and the readers they are in."""

    def __init__(
        self,
        state: Path,
        device: Device,
        journal: JournalAccess,
        places: CardPlaces,
        sessions: SessionWatching | None = None,
    ) -> None:
        """Use the agent's state folder.

        Args:
            state: cards lie in its folder ``cards``.
            device: the secrets they are under.
            journal: where each card's origin is written.
            places: the readers.
            sessions: knows whether the person is there; told when they ask for their cards.
        """
        self._device = device
        self._journal = journal
        self._places = places
        self._sessions = sessions
        self._shelf = CardShelf(state / "cards", device)
        self._over = StartOver(state, device, journal)
        self.copies = state / "encodings"
        """where copies of cards lie that orders work on"""
        self._cards: dict[str, VirtualCard] = {}
        self._workers: dict[str, ThreadPoolExecutor] = {}
        self._said: dict[str, str] = {}

    async def levels(self) -> list[StorageLevel]:
        """Levels at which keys can be kept now, best first."""
        return await asyncio.to_thread(self._device.levels)

    def algorithms(self, level: StorageLevel) -> frozenset[Algorithm]:
        """What keys a level can make and take."""
        return frozenset() if level is StorageLevel.TPM else SOFTWARE_ALGORITHMS

    def card_name(self, owner: CardOwner) -> str:
        """Name of an order's card: derived from portal and order, so that it can always be found."""
        return hashlib.sha256(f"{owner.portal}\0{owner.jti}".encode()).hexdigest()[:32]

    async def make(
        self,
        owner: CardOwner,
        level: StorageLevel,
        label: str,
        pin: bytearray,
        puk: bytearray,
        policy: PinPolicy | None = None,
    ) -> MadeCard:
        """Make a card without keys, recorded before it is made.

        Raises:
            InlayError: ``pin_policy_unsatisfiable``: no card takes such a PIN; ``card_write_failed`` …
        """
        name = self.card_name(owner)
        expires = datetime.datetime.fromtimestamp(owner.expires, datetime.UTC).date()

        def making() -> tuple[VirtualCard, DeviceSecret]:
            row = JournalledCard(
                name, owner.portal, owner.jti, owner.account, level.value, owner.expires, policy
            )
            self._journal.get().add_card(row)
            store = self._shelf.store(level)
            try:
                held = card_pin(store.secret, name, pin)
                card = personalise.create(
                    store, label=label, pin=held, puk=puk, card_id=name, expires=expires
                )
            except ValueError:
                raise InlayError("pin_policy_unsatisfiable") from None
            return card, store.secret

        card, secret = await self._in_worker(name, making)
        self._cards[name] = card
        return MadeCard(
            card,
            lambda function, *arguments: self._in_worker(name, function, *arguments),
            lambda typed: card_pin(secret, name, typed),
        )

    async def remove(self, owner: CardOwner) -> None:
        """Remove an order's card and everything that was recorded of it; harmless when there is none."""
        await self.delete(self.card_name(owner))

    async def delete(self, name: str) -> None:
        """Remove a card by its name, readable or not, and what was recorded of it; harmless when there is none.

        Raises:
            InlayError: ``card_write_failed``: the disk refused; ``keystore_locked`` …: the journal can't be opened.
        """
        await self._places.hide(name, for_good=True)  # who is just listing the cards shows it no more
        await self._in_worker(name, self._remove, name)
        self._end_worker(name)

    async def use(self, name: str, function: Callable[[VirtualCard], T]) -> T:
        """Do something with an active card in its own thread, after whatever is going on with it there.

        Args:
            name: the card, in a reader or not.
            function: blocks as long as it likes; what it raises is raised here.

        Raises:
            InlayError: ``card_unknown``, ``card_not_active``, ``card_damaged`` …
        """

        def using() -> T:
            card = self._loaded(name)
            if card.lifecycle is not Lifecycle.ACTIVE:
                raise InlayError("card_not_active")
            return function(card)

        return await self._in_worker(name, using)

    async def activate(self, owner: CardOwner) -> CardFacts:
        """Mark an order's card active; harmless when it is."""
        name = self.card_name(owner)

        def activating() -> VirtualCard:
            card = self._loaded(name)
            if card.lifecycle is not Lifecycle.ACTIVE:
                personalise.activate(card)
            return card

        card = await self._in_worker(name, activating)
        self._end_worker(name)
        return facts_of(card)

    async def show(self, card: str) -> Shown:
        """Put an active card into a reader, and check that PC/SC shows that very card."""
        return await self._places.show(self._cards[card])

    async def generations(self, portal: str) -> list[CardGeneration]:
        """How often the files of a portal's cards were saved, as they lie on the disk now; some of too many."""
        found = await asyncio.to_thread(self._generations, portal)
        return secrets.SystemRandom().sample(found, min(len(found), _MOST_TOLD))

    async def overview(self) -> list[dict[str, Any]]:
        """All cards, as ``inlay cards --json`` has them; one that is in no reader is put into one again."""
        if self._sessions is not None:
            absence = await self._sessions.person_asks()
            await (self._places.readmit() if absence is None else self._places.withdraw(absence))
        standings = await self.attend()
        records = await asyncio.to_thread(self._journal.cards)
        return [card_row(standing, records.get(standing.shelved.card_id)) for standing in standings]

    def notes(self) -> list[InlayError]:
        """What the person should know of their cards as a whole."""
        blind = None if self._sessions is None else self._sessions.blind
        return [] if blind is None else [blind]

    async def lost(self) -> dict[str, Any]:
        """What a lost secret of this device takes with it; see `agent.start_over.StartOver.look`."""
        return await asyncio.to_thread(self._over.look)

    async def start_over(self) -> dict[str, Any]:
        """Put that aside, and begin anew; see `agent.start_over.StartOver.carry_out`."""
        return await asyncio.to_thread(self._over.carry_out)

    async def attend(self) -> list[Standing]:
        """Put every active card that is in no reader into one, where that is possible now.

        May be called at any time: at start, when a key store was unlocked, when somebody asks. Asks nobody to
        unlock anything.

        Returns:
            How each card stands then: the one place that says why a card can't be used.
        """
        return [await self._attend(item) for item in await self.entries()]

    async def entries(self) -> list[ShelvedCard]:
        """The files of all cards, as they lie on the disk; those that can't be read with their error."""
        return await asyncio.to_thread(self._shelf.look)

    async def sweep(self) -> None:
        """At start, before anything else: remove what a cut in the middle of a write left behind."""
        await asyncio.to_thread(self._shelf.sweep)

    async def close(self) -> None:
        """Take all cards out of their readers, and wait for what is going on."""
        await self._places.close()
        for name in list(self._workers):
            await asyncio.to_thread(self._end_worker, name)

    async def _attend(self, item: ShelvedCard) -> Standing:
        card = self._cards.get(item.card_id)
        if item.error is not None:
            return self._unusable(item, card, item.error)
        if item.state is None or item.state.lifecycle is not Lifecycle.ACTIVE:
            return Standing(item, card, Shown(None))
        try:
            card = await self._in_worker(item.card_id, self._loaded, item.card_id)
        except InlayError as error:
            return self._unusable(item, card, error)
        self._said.pop(item.card_id, None)
        return Standing(item, card, await self._places.show(card))

    def _unusable(self, item: ShelvedCard, card: VirtualCard | None, error: InlayError) -> Standing:
        if self._said.get(item.card_id) != error.code:
            _LOG.error("card %s can't be used: %s", item.card_id, error.code)
            self._said[item.card_id] = error.code
        return Standing(item, card, Shown(None, error))

    # --- in worker threads

    def _generations(self, portal: str) -> list[CardGeneration]:
        ordered = {name for name, card in self._journal.get().cards().items() if card.portal == portal}
        found = []
        for item in self._shelf.look() if ordered else []:
            if item.card_id not in ordered:
                continue
            if item.state is None:  # no reason to refuse a card on another level
                _LOG.warning("card %s can't be read: %s", item.card_id, item.error and item.error.code)
                continue
            found.append(CardGeneration(guid=item.state.guid.hex(), generation=item.state.generation))
        return found

    def _loaded(self, name: str) -> VirtualCard:
        """The one object of a card; in its own worker alone, so that there are never two of one file."""
        card = self._cards.get(name)
        if card is None:
            card = self._cards[name] = self._shelf.load(name)
        return card

    def _remove(self, name: str) -> None:
        journal = self._journal.get()
        card = self._cards.pop(name, None)
        if card is not None:
            card.retire()
        self._shelf.delete(name)
        journal.remove_card(name)

    async def _in_worker(
        self, name: str, function: Callable[P, T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = ThreadPoolExecutor(1, thread_name_prefix=f"card-{name[:8]}")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(worker, lambda: function(*arguments, **named))

    def _end_worker(self, name: str) -> None:
        worker = self._workers.pop(name, None)
        if worker is not None:
            worker.shutdown(wait=True)
