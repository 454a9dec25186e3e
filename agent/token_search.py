"""Finds the token (a card by the driver *pkcs11*) that an order is about, among the cards in the readers.

Which module speaks to a card is the card map's to say, by what the card itself shows: an administrator has put it
there, and no order names one. Only that module knows the card's serial number, so it is asked, and no other card's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.ordered_card import WhatIsSeen, what_is_seen
from agent.pcsc.pkcs11 import Driver
from protocol.errors import InlayError
from protocol.tokens import names_of

if TYPE_CHECKING:
    from agent.card_map import CardKind
    from agent.card_search import CardSearch, FoundCard, Sight
    from agent.pcsc.look import Evidence
    from agent.pcsc.pkcs11_tokens import Token


class HasModule:
    """Every card for which a module is configured; see ``agent.card_search.Criterion``."""

    def is_met_by(self, shown: Evidence, kind: CardKind) -> bool:
        """Whether a card may be the one."""
        return kind.driver == "pkcs11"

    def is_named_by(self, shown: Evidence) -> bool:
        """Only its module knows which card it is."""
        return False


async def find_token(
    search: CardSearch, guid: str, label: str, show: WhatIsSeen, *, back: bool = False
) -> tuple[Driver, Token]:
    """Wait until the token is there.

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
    while True:
        sight = await search.next()
        seen: list[Token] = []
        for module in dict.fromkeys(card.kind.module for card in sight.fitting if card.kind is not None):
            if module is None:
                continue
            driver = Driver(module)
            try:
                tokens = await driver.tokens()
                # several with one serial number are one card, whose module shows a token for each of its PINs
                for token in tokens:
                    if guid in names_of(token.serial, token.manufacturer):
                        return driver, token
            except BaseException:
                await driver.close()
                raise
            await driver.close()
            seen += tokens
        await show(_said(sight, seen, label, back=back))


def _said(sight: Sight, tokens: list[Token], label: str, *, back: bool) -> str:
    if sight.problem is not None or not sight.cards:
        return what_is_seen(sight, label, back=back)
    return " ".join(_of_card(card, tokens, label) for card in sight.cards)


def _of_card(card: FoundCard, tokens: list[Token], label: str) -> str:
    error = card.problem
    if error is None and tokens and not any(token.initialised for token in tokens):
        error = InlayError("pkcs11_not_initialised")
    elif error is not None and error.code == "card_other":
        error = InlayError("pkcs11_no_module")
    if error is None:
        return f"The card in the reader “{card.reader}” is another one, and stays as it is. Put in “{label}”."
    return f"“{card.reader}”: {error.happened} {error.why} {error.next_step}"
