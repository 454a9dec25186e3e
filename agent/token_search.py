"""Finds the token (a card by the driver *pkcs11*) that an order is about, among the cards in the readers.

Which module speaks to a card is the card map's to say, by what the card itself shows: an administrator has put it
there, and no order names one. Only that module knows the card's serial number, so it is asked, and no other card's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.card_search import AGAIN_SECONDS
from agent.ordered_card import WhatIsSeen, what_is_seen
from agent.pcsc.pkcs11 import Driver
from protocol.errors import InlayError
from protocol.tokens import names_of

if TYPE_CHECKING:
    from agent.card_map import CardKind
    from agent.card_search import CardSearch, FoundCard, Sight
    from agent.pcsc.look import Evidence
    from agent.pcsc.pkcs11_tokens import Token

FIRST_SECONDS: Final = 0.25
"""After this a module that doesn't show the card in the reader is asked again; then after twice that, and so on."""
_COMING: Final = frozenset({"pcsc_card_removed", "pkcs11_device"})
"""What a module says of a card that goes or comes while it is asked for its tokens."""


class HasModule:
    """Every card for which a module is configured; see ``agent.card_search.Criterion``."""

    def is_met_by(self, shown: Evidence, kind: CardKind) -> bool:
        """Whether a card may be the one."""
        return kind.driver == "pkcs11"

    def is_named_by(self, shown: Evidence) -> bool:
        """Only its module knows which card it is."""
        return False

    def why_not(self, shown: Evidence) -> InlayError:
        """Why a card that doesn't meet it is not the one."""
        return InlayError("card_other")


class _Asked(NamedTuple):
    """What the modules of the cards that are there have told.

    Attributes:
        found: the token, and a driver that the caller closes; None: it isn't there.
        tokens: the others.
        blind: the module of a card that is there doesn't show it.
    """

    found: tuple[Driver, Token] | None
    tokens: list[Token]
    blind: bool


async def find_token(
    search: CardSearch, guid: str, label: str, show: WhatIsSeen, *, back: bool = False
) -> tuple[Driver, Token]:
    """Wait until the token is there.

    A module may show a card later than PC/SC does, and tells nobody when: as long as somebody waits for a card that its
    module doesn't show, it is asked again, in a new process, for there are modules that look at their readers but once.

    Args:
        search: looks for cards that have a module.
        guid: which token (``protocol.tokens``).
        label: what the person calls it.
        show: told what the window has to say, whenever it is something else.
        back: it was there already.

    Returns:
        A driver, which the caller closes, and the token.

    Raises:
        InlayError: ``pkcs11_…``: its module can't be asked.
    """
    coming: asyncio.Future[Sight] = asyncio.ensure_future(search.next())
    last, pause = "", FIRST_SECONDS
    try:
        sight = await coming
        while True:
            asked = await _ask(sight, guid)
            if asked.found is not None:
                return asked.found
            said = _said(sight, asked, label, back=back)
            if said != last:
                await show(said)
                last = said
            if coming.done():
                coming, pause = asyncio.ensure_future(search.next()), FIRST_SECONDS
            if (await asyncio.wait({coming}, timeout=pause if asked.blind else None))[0]:
                sight = coming.result()
            pause = min(2 * pause, AGAIN_SECONDS)
    finally:
        coming.cancel()


async def _ask(sight: Sight, guid: str) -> _Asked:
    """Ask each module for its tokens."""
    seen: list[Token] = []
    blind = False
    for module in dict.fromkeys(card.kind.module for card in sight.fitting if card.kind is not None):
        if module is None:
            continue
        driver = Driver(module)
        try:
            tokens = await _shown(driver)
            # several with one serial number are one card, whose module shows a token for each of its PINs
            for token in tokens:
                if guid in names_of(token.serial, token.manufacturer):
                    return _Asked((driver, token), seen, blind)
        except BaseException:
            await driver.close()
            raise
        await driver.close()
        seen += tokens
        blind = blind or not tokens
    return _Asked(None, seen, blind)


async def _shown(driver: Driver) -> list[Token]:
    """The tokens that a module shows; none where one goes, or comes, in this moment."""
    try:
        return await driver.tokens()
    except InlayError as error:
        if error.code not in _COMING:
            raise
        return []


def _said(sight: Sight, asked: _Asked, label: str, *, back: bool) -> str:
    if sight.problem is not None or not sight.cards:
        return what_is_seen(sight, label, back=back)
    return " ".join(_of_card(card, asked, label) for card in sight.cards)


def _of_card(card: FoundCard, asked: _Asked, label: str) -> str:
    error, tokens = card.problem, asked.tokens
    if error is None and not tokens and asked.blind:
        return f"The card in the reader “{card.reader}” is there, and its module doesn't show it yet. Leave it there."
    if error is None and tokens and not any(token.initialised for token in tokens):
        error = InlayError("pkcs11_not_initialised")
    elif error is not None and error.code == "card_other":
        error = InlayError("pkcs11_no_module")
    if error is None:
        return f"The card in the reader “{card.reader}” is another one, and stays as it is. Put in “{label}”."
    return f"“{card.reader}”: {error.happened} {error.why} {error.next_step}"
