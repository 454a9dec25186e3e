"""*Create virtual card*: from consent to a card that proves itself, and back to nothing where that fails.

What can be refused is refused before anything is created. The PIN lives in this process from consent to the
receipt, and is wiped then; it is never written anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Final

from agent.handlers.card_writing import (
    begin,
    certified,
    check_keys,
    day,
    prove,
    requests,
    show,
    summary,
    wipe,
)
from agent.order_ports import OrderContext
from agent.pin_rules import keeps_rules, plain_rules
from agent.ports import (
    Consented as Agreement,
)
from agent.ports import (
    InteractionError,
    OrderPrompt,
    WindowFailed,
)
from agent.virtual_card_ports import CardInProgress, CardOwner, Cards
from protocol import jose
from protocol.errors import DecodeError, InlayError
from protocol.messages import (
    Consented,
    CreateVirtualCard,
    KeySource,
    Order,
    Proceed,
    Receipt,
    Requests,
    Step,
    StorageLevel,
)

CONSENT_SECONDS: Final = 600
"""How long the window waits for a person."""

_PUK_LOST: Final = "The PUK can't be shown any more: Inlay was stopped before the card was confirmed."
_SOURCES: Final = frozenset({KeySource.GENERATE, KeySource.IMPORT})


class CreateVirtualCardHandler:
    """The operation *create virtual card*; see ``agent.order_ports.OrderHandler``."""

    def __init__(self, cards: Cards) -> None:
        """Make the cards of this user."""
        self._cards = cards
        self._puks: dict[CardOwner, bytearray] = {}

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page, with the rules for the new PIN.

        Raises:
            InlayError: ``pin_policy_unsatisfiable``, or ``order_malformed`` where the order contradicts itself.
        """
        parameters = _ordered(order)
        plain_rules(parameters.pin_policy)
        check_keys(parameters.keys, _SOURCES)
        if (parameters.puk == "escrow") != (parameters.escrow_key is not None):
            raise DecodeError("order_malformed", "$.parameters.escrow_key")
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            # the id first: a name is its owner's choice, and could be written like somebody else's id
            account=f"{order.account.user_id} ({order.account.name})",
            title="Create a virtual smart card",
            consequences=tuple(_consequences(order)),
            pin_policy=parameters.pin_policy,
            confirm_label="Create",
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        level = await self._choose_level(context.order)
        await context.progress(Step.CONSENT)
        consented = await _ask(context)
        try:
            pin = _checked_pin(context.order, consented.pin)
            await context.send(
                Consented(encryption_key=context.encryption_key, storage=level, number=context.number)
            )
            await self._bind(context)
            card = await self._make(context, level, pin)
            issued = await certified(context, card, _ordered(context.order).keys)
            found = await prove(context, card, issued, pin)
            facts = card.facts
            await context.send(
                Receipt(guid=facts.guid, generation=facts.generation, storage=facts.level, proofs=found)
            )
        finally:
            consented.wipe()

    async def finish(self, context: OrderContext) -> None:
        """The portal has confirmed: the card becomes active, is shown to other programs, and to the person."""
        owner = _owner_of(context.order)
        facts = await context.record("activate", self._cards.activate(owner))
        shown = await context.record("show", self._cards.show(facts.card))
        puk = self._puks.pop(owner, None)
        lost = _ordered(context.order).puk == "show" and puk is None
        with contextlib.suppress(InteractionError):  # the card is there, with or without a window
            notes = (_PUK_LOST,) if lost else ()
            details = summary(_ordered(context.order).keys, facts, shown, *notes)
            await context.window.show_details(details, puk)
        wipe(puk)

    async def undo(self, order: Order) -> None:
        """Remove the card and its keys."""
        owner = _owner_of(order)
        wipe(self._puks.pop(owner, None))
        await self._cards.remove(owner)

    # --- steps

    async def _choose_level(self, order: Order) -> StorageLevel:
        """The best level that this machine has and the order allows, able to make all keys of the order."""
        available = await self._cards.levels()
        allowed = [level for level in available if level in _ordered(order).storage]
        if not allowed:
            best = available[0].value if available else "none"
            raise InlayError("storage_refused", level=best)
        wanted = {key.algorithm for key in _ordered(order).keys}
        for level in allowed:
            if wanted <= self._cards.algorithms(level):
                return level
        missing = sorted(wanted - self._cards.algorithms(allowed[0]))
        raise InlayError("algorithm_unsupported", algorithm=", ".join(missing))

    async def _bind(self, context: OrderContext) -> None:
        """Nothing is made before the portal says that page and machine belong together."""
        await context.progress(Step.BINDING)
        await context.guard(context.bind())
        if context.number is not None:
            await context.window.show_number(context.number)
        else:
            await show(context, Step.BINDING)
        await context.guard(context.receive(Proceed))

    async def _make(self, context: OrderContext, level: StorageLevel, pin: bytearray) -> CardInProgress:
        """Make the card and its own keys, and ask for the certificates."""
        await begin(context, Step.KEYS)
        order = context.order
        owner = _owner_of(order)
        puk = bytearray(f"{secrets.randbelow(10**8):08d}", "ascii")
        self._puks[owner] = puk
        parameters = _ordered(order)
        making = self._cards.make(owner, level, parameters.label, pin, puk, parameters.pin_policy)
        card = await context.guard(context.record("make", making))
        asked = await requests(context, card, parameters.keys, pin)
        escrow = _ordered(order).escrow_key
        facts = card.facts
        await context.send(
            Requests(
                guid=facts.guid,
                serial=facts.serial,
                requests=asked,
                puk=None if escrow is None else jose.encrypt(puk, escrow),
            )
        )
        if escrow is not None:
            wipe(self._puks.pop(owner))
        return card


def _ordered(order: Order) -> CreateVirtualCard:
    if not isinstance(order.parameters, CreateVirtualCard):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters


def _owner_of(order: Order) -> CardOwner:
    """Whose card an order makes."""
    return CardOwner(order.iss, order.jti, order.account.user_id, _ordered(order).valid_until)


async def _ask(context: OrderContext) -> Agreement:
    try:
        async with asyncio.timeout(CONSENT_SECONDS):
            return await context.guard(context.window.consent())
    except TimeoutError:
        raise InlayError("user_timeout", seconds=CONSENT_SECONDS) from None


def _checked_pin(order: Order, pin: bytearray | None) -> bytearray:
    """The window has checked the rules while typing; a PIN that breaks them is the window's fault."""
    if pin is None or not keeps_rules(plain_rules(_ordered(order).pin_policy), pin):
        raise WindowFailed(None)
    return pin


def _consequences(order: Order) -> list[str]:
    parameters = _ordered(order)
    purposes = ", ".join(key.purpose.value for key in parameters.keys)
    lines = [
        f"A new virtual smart card, “{parameters.label}”, is made on this computer.",
        f"It gets certificates for {purposes}, valid until {day(parameters.valid_until)}.",
        "Every program of yours can use it as a card in a reader, with the PIN that you choose now.",
    ]
    if any(key.source is KeySource.IMPORT for key in parameters.keys):
        lines.append("The encryption key comes from the portal, which keeps a copy to recover it by.")
    if parameters.puk == "escrow":
        lines.append("The PUK of the card goes to the portal, encrypted, and is kept there.")
    else:
        lines.append("The PUK, which unblocks the PIN, is shown to you once at the end.")
    return lines
