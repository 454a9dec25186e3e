"""What is asked of the person, and how the browser session is bound to this machine.

The number is drawn here, shown in the window and sent to the portal; it never goes to the page by this machine.
The completion secret goes to the page by the connection that brought the code, and by no other.
"""

from __future__ import annotations

import dataclasses
import secrets
from typing import TYPE_CHECKING

from protocol.errors import InlayError
from protocol.messages import Binding

if TYPE_CHECKING:
    from agent.clock import PortalClock
    from agent.order_ports import OrderHandler, Page
    from agent.ports import OrderPrompt
    from agent.trust import TrustEntry
    from protocol.messages import Order


def build_prompt(handler: OrderHandler, order: Order, entry: TrustEntry, clock: PortalClock) -> OrderPrompt:
    """The consent page: name and address of the trust entry, account and consequences of the order.

    Raises:
        InlayError: the order can't be carried out by anybody.
    """
    prompt = handler.prompt(order, entry.name)
    if not clock.warning:
        return prompt
    minutes = round(abs(clock.drift) / 60)
    note = f"This computer's clock differs from the portal's by {minutes} minutes. Please set it."
    return dataclasses.replace(prompt, consequences=(*prompt.consequences, note))


def new_number(order: Order) -> str | None:
    """A fresh three-digit number where the order's binding asks for one; None otherwise."""
    return f"{secrets.randbelow(1000):03d}" if order.binding is Binding.NUMBER else None


def check_binding(order: Order, page: Page | None) -> None:
    """Check that this machine can bind as the order says.

    Raises:
        InlayError: ``binding_refused``: the completion secret could go to no page.
    """
    if order.binding is Binding.COMPLETION and page is None:
        raise InlayError("binding_refused")
