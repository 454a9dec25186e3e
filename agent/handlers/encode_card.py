"""*Encode card*: an order of the portal that gives a card of this machine new keys and certificates.

Everything is done on a copy of the card; the card itself stays as it is, and in use. When the portal has confirmed, the
card takes on the copy in one write: killed at any moment there is the old card or the new one. Undone, the copy is
removed. PIN, PUK and their tries are the card's own throughout: a wrong PIN costs the try that it is. Only where the
order sets a new PIN, by the PUK that the portal has in escrow, the copy's PIN is taken on, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from typing import TYPE_CHECKING, Final

from agent.card_ports import closed_card, ordered_card
from agent.handlers.card_dialogue import card_name
from agent.handlers.card_writing import (
    SETTLED,
    STEPS,
    begin,
    certified,
    check_keys,
    day,
    prove,
    requests,
    summary,
    wipe,
)
from agent.handlers.order_steps import account_line, agree, ask
from agent.handlers.pin_questions import known_pin
from agent.pin_rules import PinRules, keeps_rules, plain_rules
from agent.ports import InteractionError, KnownSecret, OrderPrompt, WindowFailed
from agent.tries import tries_warning
from protocol.errors import DecodeError, InlayError
from protocol.messages import CardStep, EncodeCard, KeySource, Receipt, Requests, Step

if TYPE_CHECKING:
    from agent.card_ports import CardKeeping
    from agent.order_ports import OrderContext
    from agent.ports import Consented
    from protocol.messages import Order

_LONGEST: Final = 15


class EncodeCardHandler:
    """The operation *encode card*; see ``agent.order_ports.OrderHandler``."""

    def __init__(self, cards: CardKeeping) -> None:
        """Encode these cards."""
        self._cards = cards

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page, with a field for the card's PIN, or for a new one.

        Raises:
            InlayError: ``encoding_unsupported``: no virtual card can do what is asked; ``order_malformed``.
        """
        ordered = _ordered(order)
        _check(ordered)
        policy = ordered.pin.policy
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title="Renew your card",
            consequences=consequences(ordered),
            pin_policy=None if policy is None else plain_rules(policy),
            confirm_label="Renew",
            card=ordered.label,
            known=None if policy else KnownSecret("PIN of the card", 6, _LONGEST),
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt; until then the card itself is not touched."""
        ordered = _ordered(context.order)
        card = ordered_card(await self._cards.known(), ordered.guid, context.order.iss).card
        await context.progress(Step.CONSENT)
        if _sets_pin(ordered):
            await self._encode_with_new_pin(context, card)
            return
        answer = await self._pin(context, card)
        try:
            await self._encode(context, card, _typed(answer))
        finally:
            answer.wipe()

    async def finish(self, context: OrderContext) -> None:
        """The portal has confirmed: the card takes on its copy; harmless when it has."""
        ordered, order = _ordered(context.order), context.order
        known = await self._cards.known()
        found = [card.card for card in known if card.guid == ordered.guid and card.portal == order.iss]
        if not found:
            if (shut := closed_card(known, order.iss)) is not None:
                raise shut  # it may be that one: the next start tries again
            await self._cards.drop_copy(order.iss, order.jti)  # the card was deleted meanwhile
            return
        taking = self._cards.take_on(
            order.iss, order.jti, found[0], ordered.valid_until, new_pin=_sets_pin(ordered)
        )
        facts, shown = await context.record("take on", taking)
        notes = ("Its other keys and certificates stayed as they were.",)
        details = summary(ordered.keys, facts, shown, *notes, others="as before")
        with contextlib.suppress(InteractionError):  # the card is renewed, with or without a window
            await context.window.show_details(details)

    async def undo(self, order: Order) -> None:
        """Remove the copy: the card is as it was."""
        await self._cards.drop_copy(order.iss, order.jti)

    async def _pin(self, context: OrderContext, card: str) -> Consented:
        """Ask for the PIN as often as the card has tries; the portal has agreed before the first one is spent."""
        wrong: InlayError | None = None
        agreed = False
        while True:
            standing = await self._cards.standing(card)
            if not standing.pin_tries:
                raise InlayError("pin_blocked")
            warning = tries_warning("PIN", standing.pin_tries, wrong)
            prompt = dataclasses.replace(
                context.prompt, card=card_name(standing), known=known_pin(standing), warning=warning
            )
            answer = await ask(context, prompt)
            try:
                if not agreed:
                    await agree(context, total=len(STEPS))
                    agreed = True
                await self._cards.check_pin(card, _typed(answer))
            except BaseException as error:
                answer.wipe()
                if not isinstance(error, InlayError) or error.code != "pin_wrong":
                    raise
                wrong = error
            else:
                return answer

    async def _encode_with_new_pin(self, context: OrderContext, card: str) -> None:
        """Ask for a new PIN, which the portal's PUK lets the copy take."""
        standing = await self._cards.standing(card)
        answer = await ask(context, dataclasses.replace(context.prompt, card=card_name(standing)))
        puk = None
        try:
            if answer.pin is None or not keeps_rules(_rules(_ordered(context.order)), answer.pin):
                raise WindowFailed(None)
            token = (await agree(context, total=len(STEPS))).puk
            if token is None:
                raise DecodeError("params_invalid", "$.puk")
            puk = context.decrypt(token)
            await self._encode(context, card, answer.pin, puk)
        finally:
            answer.wipe()
            wipe(puk)

    async def _encode(
        self, context: OrderContext, card: str, pin: bytearray, puk: bytearray | None = None
    ) -> None:
        ordered, order = _ordered(context.order), context.order
        await begin(context, Step.KEYS)
        copy = await context.guard(context.record("copy", self._cards.copy(order.iss, order.jti, card)))
        if puk is not None:
            await context.guard(context.record("set pin", copy.set_pin(puk, pin)))
        expires = datetime.datetime.fromtimestamp(ordered.valid_until, datetime.UTC).date()
        before = (await self._cards.standing(card)).expires
        if before is None or expires > before:  # what stays on the card may be valid for longer
            await context.guard(context.record("extend", copy.extend(expires)))
        asked = await requests(context, copy, ordered.keys, pin)
        await context.send(Requests(guid=copy.facts.guid, serial=copy.facts.serial, requests=asked))
        issued = await certified(context, copy, ordered.keys)
        found = await prove(context, copy, issued, pin)
        await context.send(Receipt(guid=ordered.guid, generation=copy.facts.generation, proofs=found))


def _check(ordered: EncodeCard) -> None:
    """What can be done with a virtual card that is there, with the PIN typed in a window."""
    check_keys(ordered.keys, SETTLED)
    if ordered.objects:
        raise InlayError("encoding_unsupported", what="data objects")
    if ordered.driver != "virtual":
        raise InlayError("encoding_unsupported", what=f"a card by the driver {ordered.driver}")
    if ordered.attest == "required":
        raise InlayError("encoding_unsupported", what="attestation by a virtual card")
    others = [step.value for step in ordered.steps if step is not CardStep.SET_PIN]
    if others:
        raise InlayError("encoding_unsupported", what=f"the step {others[0]}")
    entry = ordered.pin
    wanted = "new" if _sets_pin(ordered) else "verify"
    if entry.kind != wanted or entry.where == "pad" or (entry.policy is None) == _sets_pin(ordered):
        raise InlayError("encoding_unsupported", what=f"the PIN entry {entry.kind} {entry.where}")
    if entry.policy is not None:
        plain_rules(entry.policy)


def _sets_pin(ordered: EncodeCard) -> bool:
    return CardStep.SET_PIN in ordered.steps


def _rules(ordered: EncodeCard) -> PinRules:
    if ordered.pin.policy is None:
        raise DecodeError("order_malformed", "$.parameters.pin.policy")
    return plain_rules(ordered.pin.policy)


def _ordered(order: Order) -> EncodeCard:
    if not isinstance(order.parameters, EncodeCard):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters


def _typed(answer: Consented) -> bytearray:
    if answer.known is None:
        raise WindowFailed(None)
    return answer.known


def consequences(ordered: EncodeCard) -> tuple[str, ...]:
    """What an order does to the card, as consent shows it."""
    made = [key.purpose.value for key in ordered.keys if key.source is KeySource.GENERATE]
    kept = [key.purpose.value for key in ordered.keys if key.source is KeySource.KEEP]
    imported = [key for key in ordered.keys if key.source is KeySource.IMPORT]
    lines = []
    if made:
        lines.append(f"The card gets new keys and certificates for {' and '.join(made)}; the old keys go.")
    if kept:
        lines.append(f"It gets new certificates for the keys it has for {' and '.join(kept)}.")
    if imported:
        lines.append("It gets encryption keys that the portal keeps a copy of.")
    lines.append(f"The new certificates are valid until {day(ordered.valid_until)}.")
    if _sets_pin(ordered):
        lines.append("You choose a new PIN now; the old one is forgotten. Everything else on the card stays.")
    else:
        lines.append("Everything else on the card stays, and so does its PIN.")
    return tuple(lines)
