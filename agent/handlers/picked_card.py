"""The person says that a card is the one: where it tells no serial number, the number printed on it is all there is.

See ``docs/adr/0024-confirmed-by-number-reset-when-blocked.md``. The person says it first, then the portal says
that it is no other card of its own: until both have nothing is written.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from agent.card_search import mark_of
from agent.handlers.order_steps import ask
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.card_search import CardMark, FoundCard
    from agent.management_proof import PortalKey
    from agent.order_ports import OrderContext

TITLE: Final = "Is this the right card?"


class PickedCard:
    """Has the person, and then the portal, say that a card is the one."""

    def __init__(self, context: OrderContext, key: PortalKey, printed: str | None) -> None:
        """Ask nothing yet.

        Args:
            context: the order, in whose window the person is asked.
            key: by which the portal is asked.
            printed: number on the card; None: the order names none, and no card is confirmed.
        """
        self._context, self._key, self._printed = context, key, printed
        self._free: str | None = None
        self._asked = False

    async def confirm(self, found: FoundCard) -> str | None:
        """Ask about a card; of one that went and came back the portal isn't asked a second time.

        Returns:
            None: it is the one.

        Raises:
            InlayError: ``card_other``, ``user_cancelled``, ``user_timeout``; ``card_of_other_object``.
        """
        if self._printed is None or found.shown is None:
            raise InlayError("card_other")
        untouched = "" if self._asked else " Nothing was written to it yet."
        self._asked = True
        prompt = dataclasses.replace(
            self._context.prompt,
            title=TITLE,
            consequences=_told(found, self._printed),
            warning=f"Everything on this card is replaced.{untouched}",
            pin_policy=None,
            known=None,
            confirm_label="It is the card",
        )
        (await ask(self._context, prompt)).wipe()
        guid = found.shown.guid
        if guid is not None and guid != self._free:
            await self._context.guard(self._key.may_be(guid))
            self._free = guid
        return None


class UnnamedCard:
    """Has the portal say that a card is none of its own, then the person that one which isn't blank is the one.

    The order names no card: whatever is put in may be it. The card that was made before it may still be in the reader.
    """

    def __init__(self, context: OrderContext, key: PortalKey, guid: str) -> None:
        """Ask nothing yet.

        Args:
            context: the order, in whose window the person is asked.
            key: by which the portal is asked.
            guid: the one that the order gives its card.
        """
        self._context, self._key, self._guid = context, key, guid
        self._free: set[CardMark] = set()

    async def confirm(self, found: FoundCard) -> str | None:
        """Ask about a card, once about each.

        Returns:
            The name of the portal's card that it is; None: it is the one.

        Raises:
            InlayError: ``card_other``, ``user_cancelled``, ``user_timeout``; why the order ended.
        """
        if found.shown is None:
            raise InlayError("card_other")
        mark = mark_of(found.shown)
        if mark in self._free or (self._free and mark.guid == self._guid):
            return None
        label = await self._context.guard(self._key.may_be(mark.guid, mark.serial))
        if label is not None:
            return label
        if mark.guid not in (None, self._guid):
            await self._ask(found)
        self._free.add(mark)
        return None

    async def _ask(self, found: FoundCard) -> None:
        prompt = dataclasses.replace(
            self._context.prompt,
            title=TITLE,
            consequences=(
                *_told(found, None),
                "The portal doesn't know it. Is it one that nobody uses any more?",
            ),
            warning="Everything on this card is replaced. Nothing was written to it yet.",
            pin_policy=None,
            known=None,
            confirm_label="It is the card",
        )
        (await ask(self._context, prompt)).wipe()


def _told(found: FoundCard, printed: str | None) -> tuple[str, ...]:
    """What the card tells of itself, and what has to be compared."""
    seen = found.shown
    able = None if seen is None else seen.capabilities
    serial = None if able is None else able.serial
    guid = None if seen is None else seen.guid
    return (
        f"The card is in the reader “{found.reader}”.",
        "It tells no serial number."
        if serial is None
        else f"It tells the serial number {serial}, which the portal doesn't know it by.",
        "It has no identity yet." if guid is None else f"Its identity is {_grouped(guid)}.",
        *_compared(printed),
    )


def _compared(printed: str | None) -> tuple[str, ...]:
    if printed is None:
        return ()
    return (
        f"Is it the card with the number {printed} printed on it? Take it out and look, if you are not sure.",
    )


def _grouped(guid: str) -> str:
    return " ".join(guid[at : at + 8] for at in range(0, len(guid), 8))
