"""What the orders about PIN and PUK of a card in a reader have in common: consent, and the words at both ends."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from agent.handlers.order_steps import account_line, agree, ask
from agent.ports import InteractionError, OrderPrompt
from agent.returning_card import PhysicalCard
from protocol.errors import DecodeError
from protocol.messages import BlockCard, ChangePin, ChangePuk, Step, UnblockPin, VerifyPin

if TYPE_CHECKING:
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from protocol.messages import Order, Proceed, Receipt

STEPS: Final = 4
AT_CARD: Final = (1, STEPS)
Ordered = TypeVar("Ordered", bound="BlockCard | ChangePin | ChangePuk | UnblockPin | VerifyPin")


class Telling(NamedTuple):
    """What the person reads at consent and in the end."""

    title: str
    consequences: tuple[str, ...]
    done: str
    done_line: str
    confirm_label: str = "Go on"


class CardInReaderHandler(ABC, Generic[Ordered]):
    """One such operation; see ``agent.order_ports.OrderHandler``."""

    kind: type[Ordered]

    def __init__(self, readers: CardReaders) -> None:
        """Work on cards in these readers."""
        self._readers = readers

    @abstractmethod
    def _told(self, ordered: Ordered) -> Telling:
        """What the person reads.

        Raises:
            InlayError: the order can't be carried out by anybody.
        """

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page; PINs are asked for when the card is there.

        Raises:
            InlayError: ``order_malformed``; ``pin_policy_unsatisfiable``.
        """
        ordered = self._ordered(order)
        told = self._told(ordered)
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title=told.title,
            consequences=told.consequences,
            pin_policy=None,
            confirm_label=told.confirm_label,
            card=ordered.label,
        )

    async def finish(self, context: OrderContext) -> None:
        """The portal has it."""
        told = self._told(self._ordered(context.order))
        with contextlib.suppress(InteractionError):
            await context.window.show_done(told.done, (told.done_line,))

    async def undo(self, order: Order) -> None:
        """Nothing was made that could be removed."""

    def _ordered(self, order: Order) -> Ordered:
        if not isinstance(order.parameters, self.kind):
            raise DecodeError("order_malformed", "$.parameters.operation")
        return order.parameters


def card_of(ordered: BlockCard | ChangePuk | VerifyPin) -> PhysicalCard:
    """Which card an order is about."""
    return PhysicalCard(ordered.driver, ordered.guid, ordered.label)


async def begin(context: OrderContext) -> Proceed:
    """From consent to the card."""
    await context.progress(Step.CONSENT)
    (await ask(context, context.prompt)).wipe()
    agreed = await agree(context, total=STEPS)
    await context.progress(Step.CARD)
    return agreed


async def tell(context: OrderContext, receipt: Receipt) -> None:
    """The work on the card is done: tell the portal."""
    with contextlib.suppress(InteractionError):
        await context.window.show_progress(
            Step.FINISHED, "Waiting for the portal to confirm", STEPS - 1, STEPS, can_cancel=False
        )
    await context.send(receipt)
