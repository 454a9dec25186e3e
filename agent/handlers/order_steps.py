"""What the orders about a card that is there have in common: asking and binding."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from protocol.errors import DecodeError, InlayError
from protocol.messages import Consented, Proceed, Step

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.ports import Consented as Agreement
    from agent.ports import OrderPrompt
    from protocol.messages import Order

CONSENT_SECONDS: Final = 600
"""How long the window waits for a person."""


def account_line(order: Order) -> str:
    """The account as consent shows it: the id first, for a name is its owner's choice."""
    return f"{order.account.user_id} ({order.account.name})"


def secret(context: OrderContext, token: str | None, field: str) -> bytearray:
    """A secret that ``proceed`` brought; the caller wipes it.

    Raises:
        DecodeError: ``params_invalid``: it brought none.
        InlayError: ``message_signature_invalid``.
    """
    if token is None:
        raise DecodeError("params_invalid", f"$.{field}")
    return context.decrypt(token)


async def ask(context: OrderContext, prompt: OrderPrompt) -> Agreement:
    """Ask in the order's window; ends when the window is closed or the portal says undo.

    Raises:
        InlayError: ``user_cancelled``, ``user_timeout``, or why the order was ended.
    """
    try:
        async with asyncio.timeout(CONSENT_SECONDS):
            return await context.guard(context.window.ask(prompt))
    except TimeoutError:
        raise InlayError("user_timeout", seconds=CONSENT_SECONDS) from None


async def agree(context: OrderContext, *, total: int) -> Proceed:
    """Tell the portal of the consent, and wait until it says that page and machine belong together.

    Args:
        context: the order.
        total: steps that the window counts.

    Returns:
        What the portal said.
    """
    await context.send(Consented(encryption_key=context.encryption_key, number=context.number))
    await context.progress(Step.BINDING)
    await context.guard(context.bind())
    if context.number is not None:
        await context.window.show_number(context.number)
    else:
        await context.window.show_progress(Step.BINDING, "Waiting for the page", 0, total)
    return await context.guard(context.receive(Proceed))
