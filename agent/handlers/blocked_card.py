"""*Encode card* of a card whose PIN and PUK are both blocked: it is reset, if order and person allow it.

See ``docs/adr/0024-confirmed-by-number-reset-when-blocked.md``. Nothing else brings such a card back: a new PIN needs
the PUK.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from agent.awaited_card import GONE
from agent.handlers.order_steps import ask
from agent.handlers.physical_card_pin import portals_puk
from agent.pcsc import piv_reset
from agent.pcsc.piv_reset import Blocked
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.order_ports import OrderContext
    from agent.ports import OrderPrompt
    from agent.returning_card import ReturningCard

STEP: Final = "reset card"
"""What it is called in the journal."""
TRIED: Final = "puk tried"
_TELLS_NOTHING: Final = GONE | {"card_refused", "card_pin_form", "card_feature_missing"}
_GONE: Final = (
    "Every key and certificate on it is erased, those that this portal didn't write, too.",
    "What was encrypted to a key that nobody has a copy of can't be read any more.",
)
_FIRST: Final = {
    Blocked.BOTH: (
        "PIN and PUK of this card are blocked: nobody can use its keys any more.",
        "To be encoded it has to be put back to what its maker delivered.",
    ),
    Blocked.PERHAPS: (
        "The PIN of this card is blocked, and the card doesn't tell whether its PUK is, too.",
        "If it is, the card is put back to what its maker delivered. If it isn't, most cards keep what they have; "
        "some are put back all the same.",
    ),
}


async def reset_if_blocked(
    context: OrderContext,
    card: ReturningCard,
    *,
    allowed: bool,
    proves: bool,
    change: Callable[[], Awaitable[None]],
) -> bool:
    """See whether PIN and PUK are both blocked, and reset the card then.

    Args:
        context: the order.
        card: the card; waited for where it isn't there.
        allowed: the order lets it be reset.
        proves: the card has to prove itself before, by the management key that the reset takes away.
        change: tells the portal that the card is being changed.

    Returns:
        Whether it was reset.

    Raises:
        InlayError: ``card_both_blocked``: the order doesn't allow it; ``card_no_reset``; ``user_cancelled`` …
    """
    await context.guard(card.found())
    if not card.pin_blocked:
        return False
    found = await context.guard(card.run(piv_reset.blocked))
    if found is Blocked.BOTH and not allowed:
        raise InlayError("card_both_blocked")
    if found is Blocked.BOTH and not card.may_reset:
        raise InlayError("card_no_reset")
    if found is Blocked.NO or not allowed or not card.may_reset:
        return False
    if proves:
        await context.guard(card.prove_key())
    await card.let_go()  # nobody is waited for with a card that is held
    (await ask(context, _asked(context.prompt, found))).wipe()
    await change()
    done = await context.guard(context.record(STEP, card.reset()))
    if found is Blocked.BOTH and not done:
        raise InlayError(
            "card_both_blocked"
        )  # another program has given it a PIN, or it doesn't do what it says
    return done


async def see_that_puk_helps(context: OrderContext, card: ReturningCard, puk: bytearray) -> None:
    """See, before a card is changed whose PIN is blocked and that can't be reset, that its PUK isn't blocked, too.

    The PUK is replaced by itself. A right one costs nothing by that, and a wrong one the try that it would cost a
    moment later. A card that doesn't take it, or goes away meanwhile, tells nothing: what becomes of it is seen when
    the PUK is used.

    Args:
        context: the order.
        card: the card.
        puk: the portal's; the caller's.

    Raises:
        InlayError: ``card_no_reset``: it is; ``card_puk_other``; why the order ended.
    """
    try:
        await context.guard(context.record(TRIED, card.change_puk(puk, puk)))
    except InlayError as error:
        if error.code == "card_puk_blocked":
            raise InlayError("card_no_reset") from None
        if error.code not in _TELLS_NOTHING:
            raise portals_puk(error) from None


def _asked(prompt: OrderPrompt, found: Blocked) -> OrderPrompt:
    return dataclasses.replace(
        prompt,
        title="Erase the card?",
        consequences=(*_FIRST[found], *_GONE),
        warning="This can't be undone. Nothing was changed yet.",
        pin_policy=None,
        known=None,
        confirm_label="Erase",
    )
