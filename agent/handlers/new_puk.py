"""A PUK of its own for a card in a reader: one command that software never sends on the chance that it costs a try.

The answer to that command may never come, or an earlier order may have sent it: then the card has the old PUK or the
new one. Where the card tells whether its PUK is still the maker's that is believed. Elsewhere only a person may spend
a try to find out, and nobody is asked to where two or fewer are known to be left. The new PUK is tried first: where it
is right that costs nothing. The old one comes after it only where a try is left to lose.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from agent.awaited_card import GONE
from agent.handlers.order_steps import ask, secret
from agent.pcsc import piv_pin
from agent.pcsc.piv_names import PUK
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.pcsc.connection import CardConnection
    from agent.returning_card import ReturningCard
    from protocol.messages import Proceed

STEP: Final = "new puk"
_MAKERS: Final = b"12345678"
"""The PUK that cards with GET METADATA call the default one."""
_CANT: Final = frozenset({"card_feature_missing", "card_pin_form"})
_CANT_STATUS: Final = frozenset({"6A86", "6A88", "6B00"})
"""What cards say whose PUK can't be changed: the standard leaves that to them (SP 800-73pt2-5, section 3.2.2)."""
_FEW: Final = 2
_BLIND: Final = 2
"""So often a PUK that may be wrong goes to a card that doesn't tell how many tries are left."""


async def replace_puk(context: OrderContext, card: ReturningCard, agreed: Proceed) -> bool:
    """Give the card the PUK that ``proceed`` brought; False where it can't take another one, and keeps the old.

    Raises:
        InlayError: ``card_puk_wrong``, ``card_puk_blocked``; ``card_puk_unknown``: too few tries are left to find out
            which one it has; why the order ended.
        DecodeError: ``params_invalid``.
    """
    old, new = secret(context, agreed.puk, "puk"), secret(context, agreed.new_puk, "new_puk")
    try:
        return await replace(context, card, old, new, unsure=agreed.puk_unsure)
    finally:
        for value in (old, new):
            value[:] = bytes(len(value))


async def replace(
    context: OrderContext, card: ReturningCard, old: bytearray, new: bytearray, *, unsure: bool
) -> bool:
    """As `replace_puk`, with an old PUK wherever it comes from; both are the caller's.

    Args:
        context: the order.
        card: the card; ``card_puk_wrong`` says that it has neither.
        old: the PUK that it has, unless it has taken the new one.
        new: the one that it gets.
        unsure: it may have that already.
    """
    return await _Replacing(context, card, old, new).carry_out(unsure=unsure)


class _Replacing:
    """One card's new PUK."""

    def __init__(self, context: OrderContext, card: ReturningCard, old: bytearray, new: bytearray) -> None:
        self._context, self._card, self._old, self._new = context, card, old, new
        self._sent = 0
        self._before: int | None = None

    async def carry_out(self, *, unsure: bool) -> bool:
        """See `replace_puk`; ``unsure``: the card may have the new one already."""
        may_have = [self._new, self._old] if unsure else [self._old]
        while True:
            may_have = await self._told_by_metadata(may_have)
            if may_have == [self._new]:
                return True
            if len(may_have) > 1:
                await self._agree_to_a_try()
            sent = self._sent
            try:
                await self._context.guard(self._context.record(STEP, self._change(may_have[0])))
            except InlayError as error:
                if self._sent == sent:
                    raise
                if len(may_have) == 1 and _is_refusal_to_change(error):
                    return False
                may_have = await self._after(error, may_have)
            else:
                return True

    async def _change(self, old: bytearray) -> None:
        """Send it, to a card that has just told its tries: so it is there, and this is all that can be torn."""
        self._before = await self._card.run(_tries_of_held)
        self._sent += 1
        await self._card.change_puk(old, self._new)

    async def _after(self, error: InlayError, may_have: list[bytearray]) -> list[bytearray]:
        """Which PUKs the card may have after a command that ended so, the one that is tried first in front."""
        left: object
        if error.code == "card_puk_wrong":
            left = error.fields.get("tries")
        elif error.code in GONE:
            left, before = await self._tries(), self._before
            if left is None or before is None or left >= before:
                return [self._new, self._old]
        else:
            raise error
        if len(may_have) == 1:
            raise InlayError("card_puk_wrong", **({} if left is None else {"tries": left}))
        if isinstance(left, int) and left < _FEW:
            raise InlayError("card_puk_unknown")  # neither may be right: the last try is nobody's to spend
        return may_have[1:]

    async def _told_by_metadata(self, may_have: list[bytearray]) -> list[bytearray]:
        """Those that it may have, by whether it says that it has its maker's, asked without spending a try."""
        if len(may_have) == 1 or bytes(self._old) != _MAKERS:
            return may_have
        makers = await self._context.guard(self._card.run(piv_pin.is_makers, PUK))
        if makers is None:
            return may_have
        return [self._old if makers else self._new]

    async def _tries(self) -> int | None:
        return await self._context.guard(self._card.run(piv_pin.tries_left, PUK))

    async def _agree_to_a_try(self) -> None:
        """Ask the person whether a try may be spent.

        Raises:
            InlayError: ``card_puk_blocked``, ``card_puk_unknown``; ``user_cancelled``.
        """
        context, tries = self._context, await self._tries()
        if tries == 0:
            raise InlayError("card_puk_blocked")
        if (tries is None and self._sent >= _BLIND) or (tries is not None and tries <= _FEW):
            raise InlayError("card_puk_unknown")
        await self._card.let_go()  # nobody is waited for with a card that something was proved to
        left = "the card doesn't tell how many there are" if tries is None else f"there are {tries}"
        warning = (
            "The card went away while its PUK was changed: nobody knows whether it has the old one or the new one. "
            f"Go on to find out: that may cost one of the PUK's tries; {left}."
        )
        asked = dataclasses.replace(
            context.prompt, known=None, pin_policy=None, warning=warning, confirm_label="Go on"
        )
        (await ask(context, asked)).wipe()


def _tries_of_held(card: CardConnection) -> int | None:
    """How many tries the PUK has, in the card's thread; other programs are kept off the card from then on.

    Keeping them off takes a SELECT. With the next command it would be torn in its place.
    """
    card.begin()
    return piv_pin.tries_left(card, PUK)


def _is_refusal_to_change(error: InlayError) -> bool:
    refused = error.code == "card_refused" and error.fields["status"] in _CANT_STATUS
    return refused or error.code in _CANT
