"""A PUK of its own for a card in a reader: one command that software never sends on the chance that it costs a try.

The answer to that command may never come, or an earlier order may have sent it: then the card has the old PUK or the
new one. Where the card tells whether its PUK is still the maker's that is believed. Elsewhere only a person may spend
a try to find out, and nobody is asked to where two or fewer are known to be left.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from agent.handlers.order_steps import ask, secret
from agent.pcsc import piv_pin
from agent.pcsc.piv_names import PUK
from agent.returning_card import GONE
from protocol.errors import InlayError

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.returning_card import ReturningCard
    from protocol.messages import Proceed

_STEP: Final = "new puk"
_MAKERS: Final = b"12345678"
"""The PUK that cards with GET METADATA call the default one."""
_CANT: Final = frozenset({"card_feature_missing", "card_pin_form"})
_CANT_STATUS: Final = frozenset({"6A86", "6A88", "6B00"})
"""What cards say whose PUK can't be changed: the standard leaves that to them (SP 800-73pt2-5, section 3.2.2)."""
_FEW: Final = 2


async def replace_puk(context: OrderContext, card: ReturningCard, agreed: Proceed) -> bool:
    """Give the card the PUK that ``proceed`` brought; False where it can't take another one, and keeps the old.

    Raises:
        InlayError: ``card_puk_wrong``, ``card_puk_blocked``; ``card_puk_unknown``: too few tries are left to find out
            which one it has; why the order ended.
        DecodeError: ``params_invalid``.
    """
    old, new = secret(context, agreed.puk, "puk"), secret(context, agreed.new_puk, "new_puk")
    try:
        return await _Replacing(context, card, old, new).carry_out(unsure=agreed.puk_unsure)
    finally:
        for value in (old, new):
            value[:] = bytes(len(value))


class _Replacing:
    """One card's new PUK."""

    def __init__(self, context: OrderContext, card: ReturningCard, old: bytearray, new: bytearray) -> None:
        self._context, self._card, self._old, self._new = context, card, old, new

    async def carry_out(self, *, unsure: bool) -> bool:
        """See `replace_puk`; ``unsure``: the card may have the new one already."""
        while True:
            has_old = await self._has_old() if unsure else True
            if has_old is False:
                return True
            if has_old is None:
                await self._agree_to_a_try()
            try:
                changing = self._card.change_puk(self._old, self._new)
                await self._context.guard(self._context.record(_STEP, changing))
            except InlayError as error:
                if error.code in GONE:
                    unsure = True
                elif error.code == "card_puk_wrong" and has_old is None:
                    return True  # it isn't the old one: the new PIN is set by the new one, which proves it
                elif _is_refusal_to_change(error):
                    return False
                else:
                    raise
            else:
                return True

    async def _has_old(self) -> bool | None:
        """Whether the card has the old PUK, asked without spending a try; None where it doesn't tell."""
        if bytes(self._old) != _MAKERS:
            return None
        return await self._context.guard(self._card.run(piv_pin.is_makers, PUK))

    async def _agree_to_a_try(self) -> None:
        """Ask the person whether a try may be spent.

        Raises:
            InlayError: ``card_puk_unknown``; ``user_cancelled``.
        """
        context = self._context
        tries = await context.guard(self._card.run(piv_pin.tries_left, PUK))
        if tries is not None and tries <= _FEW:
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


def _is_refusal_to_change(error: InlayError) -> bool:
    refused = error.code == "card_refused" and error.fields["status"] in _CANT_STATUS
    return refused or error.code in _CANT
