"""This user's virtual cards: made for orders, shown in readers, removed; see ``agent.order_ports.Cards``.

One folder for each storage level. What changes a card runs in that card's own worker thread, one thing after
the other: a removal waits for whatever is still going on, and nothing is written after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from agent.journal import JournalledCard
from agent.long_pin import card_pin
from agent.made_card import MadeCard, facts_of
from agent.order_ports import CardFacts, CardOwner, Shown
from agent.vsc import personalise
from agent.vsc.card import VirtualCard
from agent.vsc.state import Lifecycle
from agent.vsc.store import CardEntry, CardStore, CardUnknown, delete_card
from protocol.errors import InlayError
from protocol.messages import Algorithm, CardGeneration, PinPolicy, StorageLevel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.card_places import CardPlaces
    from agent.device import Device
    from agent.journal_access import JournalAccess
    from agent.keys_system import DeviceSecret

_LOG = logging.getLogger(__name__)

_MOST_TOLD: Final = 32
"""Cards in one claim; by chance which, so that none is always left out."""
SOFTWARE_ALGORITHMS: Final = frozenset({Algorithm.RSA_2048, Algorithm.P_256})

P = ParamSpec("P")
T = TypeVar("T")


class VirtualCards:
    """The cards, and the readers they are in."""

    def __init__(self, state: Path, device: Device, journal: JournalAccess, places: CardPlaces) -> None:
        """Use the agent's state folder.

        Args:
            state: cards lie in its folder ``cards``.
            device: the secrets they are under.
            journal: where each card's origin is written.
            places: the readers.
        """
        self._folder = state / "cards"
        self._device = device
        self._journal = journal
        self._places = places
        self._cards: dict[str, VirtualCard] = {}
        self._workers: dict[str, ThreadPoolExecutor] = {}

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
            store = self._store(level)
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
        await self._places.hide(name)
        await self._in_worker(name, self._remove, name)
        await self._places.hide(name)  # who listed the cards meanwhile may have shown it again
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
        journal = await asyncio.to_thread(self._journal.get)
        records = await asyncio.to_thread(journal.cards)
        found = []
        for entry in await self.entries():
            card = self._cards.get(entry.card_id)
            shown = Shown(None, entry.error)
            if card is not None and card.lifecycle is Lifecycle.ACTIVE:
                shown = await self._places.show(card)
            found.append(_row(entry, card, records.get(entry.card_id), shown))
        return found

    async def entries(self) -> list[CardEntry]:
        """The files of all cards, as they lie on the disk; those that can't be read with their error."""
        return await asyncio.to_thread(self._entries)

    async def sweep(self) -> None:
        """At start, before anything else: remove what a cut in the middle of a write left behind."""
        await asyncio.to_thread(self._sweep)

    async def start(self) -> None:
        """At start: put every active card into a reader."""
        for entry in await self.entries():
            if entry.error is not None:
                _LOG.error("card %s can't be used: %s", entry.card_id, entry.error.code)
            elif entry.state is not None and entry.state.lifecycle is Lifecycle.ACTIVE:
                card = await self._in_worker(entry.card_id, self._loaded, entry.card_id)
                await self._places.show(card)

    async def close(self) -> None:
        """Take all cards out of their readers, and wait for what is going on."""
        await self._places.close()
        for name in list(self._workers):
            await asyncio.to_thread(self._end_worker, name)

    # --- in worker threads

    def _store(self, level: StorageLevel) -> CardStore:
        return CardStore(self._folder / level.value, self._device.secret(level))

    def _levels_in_use(self) -> list[StorageLevel]:
        return [level for level in StorageLevel if (self._folder / level.value).is_dir()]

    def _entries(self) -> list[CardEntry]:
        found = []
        for level in self._levels_in_use():
            found += self._store(level).list_cards()
        return found

    def _generations(self, portal: str) -> list[CardGeneration]:
        ordered = {name for name, card in self._journal.get().cards().items() if card.portal == portal}
        found = []
        for level in self._levels_in_use() if ordered else []:
            try:
                entries = self._store(level).list_cards()
            except InlayError as error:  # that level is shut: no reason to refuse a card on another one
                _LOG.warning("cards of level %s can't be read: %s", level.value, error.code)
                continue
            found += [
                CardGeneration(guid=entry.state.guid.hex(), generation=entry.state.generation)
                for entry in entries
                if entry.state is not None and entry.card_id in ordered
            ]
        return found

    def _sweep(self) -> None:
        for level in self._levels_in_use():
            self._store(level).sweep()

    def _loaded(self, name: str) -> VirtualCard:
        """The one object of a card; in its own worker alone, so that there are never two of one file."""
        card = self._cards.get(name)
        if card is None:
            record = self._journal.get().cards().get(name)
            if record is None:
                raise CardUnknown(name)
            card = self._cards[name] = VirtualCard.load(self._store(StorageLevel(record.level)), name)
        return card

    def _remove(self, name: str) -> None:
        journal = self._journal.get()
        card = self._cards.pop(name, None)
        if card is not None:
            card.retire()
        for level in self._levels_in_use():
            with contextlib.suppress(CardUnknown):
                delete_card(self._folder / level.value, name)
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


def _row(
    entry: CardEntry, card: VirtualCard | None, record: JournalledCard | None, shown: Shown
) -> dict[str, Any]:
    row: dict[str, Any] = {"card": entry.card_id, "state": "unusable"}
    if entry.state is not None:
        row |= {
            "label": entry.state.label,
            "serial": str(int.from_bytes(entry.state.serial, "big")),
            "guid": entry.state.guid.hex(),
            "state": (entry.state.lifecycle if card is None else card.lifecycle).value,
        }
    if record is not None:
        expires = datetime.datetime.fromtimestamp(record.expires, datetime.UTC).date().isoformat()
        row |= {
            "level": record.level,
            "portal": record.portal,
            "account": record.account,
            "expires": expires,
        }
    row["reader"] = shown.reader
    row["problem"] = None if shown.problem is None else f"{shown.problem.happened} {shown.problem.why}"
    return row
