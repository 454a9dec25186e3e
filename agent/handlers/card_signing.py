"""What *authenticate* and *sign* have in common: the card's PIN, one signature, the receipt.

Nothing is changed on the card, so nothing is undone; a PIN that is wrong costs the try that it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Literal, NamedTuple, TypeVar

from agent.card_ports import ordered_card
from agent.card_signature import card_signature, certificate_in
from agent.handlers.card_dialogue import card_name
from agent.handlers.card_writing import wipe
from agent.handlers.order_steps import account_line, agree, ask
from agent.handlers.physical_card_pin import right_pin
from agent.handlers.pin_questions import known_pin
from agent.handlers.token_pin_entry import right_token_pin
from agent.pin_rules import LONGEST_PIN, PIV_PIN_MINIMUM
from agent.ports import InteractionError, KnownSecret, OrderPrompt, WindowFailed
from agent.returning_card import PhysicalCard, ReturningCard
from agent.returning_token import ReturningToken
from agent.tries import tries_warning
from protocol.errors import InlayError
from protocol.messages import Authenticate, Receipt, Sign, Step

if TYPE_CHECKING:
    from agent.card_ports import CardKeeping
    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from protocol.messages import CardSignature, Order

Ordered = TypeVar("Ordered", Authenticate, Sign)

_STEPS: Final = 3


class Telling(NamedTuple):
    """What consent says: heading, what it means, the button; and what the window says at the end, with its lines."""

    title: str
    consequences: tuple[str, ...]
    confirm_label: str
    done: str
    done_lines: tuple[str, ...]


class UseKeyHandler(ABC, Generic[Ordered]):
    """An operation in which one key of a card signs once; see ``agent.order_ports.OrderHandler``."""

    slot: ClassVar[str]

    def __init__(self, cards: CardKeeping, readers: CardReaders) -> None:
        """Use the keys of these virtual cards, or of the cards in these readers."""
        self._cards, self._readers = cards, readers

    @abstractmethod
    def _ordered(self, order: Order) -> Ordered:
        """What is ordered.

        Raises:
            InlayError: ``order_malformed``.
        """

    @abstractmethod
    def _told(self, order: Order, ordered: Ordered) -> Telling:
        """What the person reads."""

    @abstractmethod
    def _digest(self, order: Order, ordered: Ordered) -> bytes:
        """What is signed: SHA-256."""

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page, with a field for the PIN of a virtual card.

        Raises:
            InlayError: ``order_malformed``; ``encoding_unsupported``: no reader asks for the PIN of a virtual card.
        """
        ordered = self._ordered(order)
        if ordered.driver == "virtual" and ordered.where == "pad":
            raise InlayError("encoding_unsupported", what="the PIN entry verify pad")
        told = self._told(order, ordered)
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title=told.title,
            consequences=told.consequences,
            pin_policy=None,
            confirm_label=told.confirm_label,
            card=ordered.label,
            known=known_at_consent(ordered),
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = self._ordered(context.order)
        digest = self._digest(context.order, ordered)
        await carry_out(context, self._cards, self._readers, ordered, self.slot, digest)

    async def finish(self, context: OrderContext) -> None:
        """The portal has it."""
        told = self._told(context.order, self._ordered(context.order))
        with contextlib.suppress(InteractionError):
            await context.window.show_done(told.done, told.done_lines)

    async def undo(self, order: Order) -> None:
        """Nothing was changed on the card; a signature that was made was given to nobody."""


def known_at_consent(ordered: Authenticate | Sign) -> KnownSecret | None:
    """The PIN of a virtual card is asked for at consent, that of a physical one when it is there."""
    return (
        KnownSecret("PIN of the card", PIV_PIN_MINIMUM, LONGEST_PIN) if ordered.driver == "virtual" else None
    )


async def carry_out(
    context: OrderContext,
    cards: CardKeeping,
    readers: CardReaders,
    ordered: Authenticate | Sign,
    slot: str,
    digest: bytes,
) -> None:
    """From consent to the receipt, with a virtual card or with one in a reader."""
    if ordered.driver == "virtual":
        await sign_and_tell(context, cards, ordered, slot, digest)
        return
    await context.progress(Step.CONSENT)
    (await ask(context, context.prompt)).wipe()
    await agree(context, total=_STEPS)
    await context.progress(Step.CARD)
    which = PhysicalCard(ordered.driver, ordered.guid, ordered.label)
    sign = _by_piv if ordered.driver == "piv" else _by_module
    signature = await sign(context, readers, which, _Use(slot, digest, ordered.where))
    with contextlib.suppress(InteractionError):
        await context.window.show_progress(
            Step.FINISHED, "Waiting for the portal to confirm", 2, _STEPS, can_cancel=False
        )
    await context.send(Receipt(guid=ordered.guid, signature=signature))


class _Use(NamedTuple):
    """What is signed by which key, and where its PIN is typed."""

    slot: str
    digest: bytes
    where: Literal["window", "pad", "auto"]


async def _by_piv(
    context: OrderContext, readers: CardReaders, which: PhysicalCard, use: _Use
) -> CardSignature:
    slot, digest, where = use
    card = ReturningCard(context, readers, which, (1, _STEPS))
    pin = None
    try:
        pin = await right_pin(context, card, lambda: _show_signing(context), where)
        await context.progress(Step.PROVING)
        der = await context.guard(card.certificate(slot))
        certificate = certificate_in({} if der is None else {slot: der}, slot)
        return card_signature(certificate, await context.guard(card.sign_digest(slot, digest, pin)))
    finally:
        wipe(pin)
        await card.close()


async def _by_module(
    context: OrderContext, readers: CardReaders, which: PhysicalCard, use: _Use
) -> CardSignature:
    slot, digest, where = use
    card = ReturningToken(context, readers, which, (1, _STEPS))
    pin = None
    try:
        pin = await right_token_pin(context, card, lambda: _show_signing(context), where)
        await context.progress(Step.PROVING)
        certificate = certificate_in({slot: await context.guard(card.certificate(slot))}, slot)
        return card_signature(certificate, await context.guard(card.sign_digest(slot, digest)))
    finally:
        wipe(pin)
        await card.close()


async def _show_signing(context: OrderContext) -> None:
    await context.window.show_progress(Step.PROVING, "Signing with the card", 1, _STEPS)


async def sign_and_tell(
    context: OrderContext, cards: CardKeeping, ordered: Authenticate | Sign, slot: str, digest: bytes
) -> None:
    """From consent to the receipt.

    Raises:
        InlayError: ``pin_blocked``, ``card_key_missing``, ``card_elsewhere`` …
    """
    card = ordered_card(await cards.known(), ordered.guid, context.order.iss).card
    await context.progress(Step.CONSENT)
    signature = await _signature(context, cards, card, slot, digest)
    with contextlib.suppress(InteractionError):
        await context.window.show_progress(
            Step.FINISHED, "Waiting for the portal to confirm", 2, _STEPS, can_cancel=False
        )
    generation = (await cards.standing(card)).facts.generation
    await context.send(Receipt(guid=ordered.guid, generation=generation, signature=signature))


async def _signature(
    context: OrderContext, cards: CardKeeping, card: str, slot: str, digest: bytes
) -> CardSignature:
    """Ask for the PIN as often as the card has tries; the portal has agreed before the first one is spent."""
    wrong: InlayError | None = None
    agreed = False
    while True:
        standing = await cards.standing(card)
        if not standing.pin_tries:
            raise InlayError("pin_blocked")
        warning = tries_warning("PIN", standing.pin_tries, wrong)
        prompt = dataclasses.replace(
            context.prompt, card=card_name(standing), known=known_pin(standing), warning=warning
        )
        answer = await ask(context, prompt)
        try:
            if not agreed:
                await agree(context, total=_STEPS)
                agreed = True
            if answer.known is None:
                raise WindowFailed(None)
            await context.progress(Step.PROVING)
            return await context.guard(cards.sign(card, slot, digest, answer.known))
        except InlayError as error:
            if error.code != "pin_wrong":
                raise
            wrong = error
        finally:
            answer.wipe()
