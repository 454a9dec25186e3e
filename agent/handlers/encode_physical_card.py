"""*Encode card* of a physical PIV card: an order that gives the card in a reader keys and certificates.

There is no copy to work on: what is changed is changed. Before the first such thing the portal has it in writing that
the card is being changed (``changing``); an order that ends before leaves the card as it was, and one that ends after
it leaves a card that is half done, which a fresh order finishes. A card that is pulled out is waited for, and the work
goes on where it was. Nobody is waited for while the card is held.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from typing import TYPE_CHECKING, Final

from agent.handlers.card_writing import (
    Steps,
    begin,
    certificate_lines,
    certificates,
    check_keys,
    day,
    prove,
    requests,
    show,
    wipe,
    write,
)
from agent.handlers.new_puk import replace_puk
from agent.handlers.order_steps import account_line, agree, ask, secret
from agent.handlers.physical_card_pin import right_pin
from agent.management_proof import ALGORITHMS, PortalKey
from agent.pcsc import piv_authenticate, piv_objects
from agent.pcsc.piv_names import CCC
from agent.pin_rules import keeps_rules, plain_rules
from agent.ports import CardSummary, InteractionError, OrderPrompt, WindowFailed
from agent.returning_card import PhysicalCard, ReturningCard
from protocol.errors import DecodeError, InlayError
from protocol.messages import CardStep, Changing, EncodeCard, KeySource, Receipt, Requests, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.pcsc.connection import CardConnection
    from agent.pcsc.piv_names import ManagementAlgorithm
    from agent.ports import Consented
    from protocol.messages import IssuedCertificate, ManagementKey, Message, Order, Proceed
    from protocol.messages import ManagementAlgorithm as Algorithm

_TEXTS: Final = {
    Step.BINDING: "Waiting for the page",
    Step.CARD: "Looking for the card",
    Step.KEYS: "Preparing the card's keys",
    Step.CERTIFICATES: "Waiting for the certificates",
    Step.WRITING: "Writing the certificates. Leave the card in the reader",
    Step.PROVING: "Checking the card",
    Step.FINISHED: "Waiting for the portal to confirm",
}
_BEFORE, _AFTER = Steps(_TEXTS), Steps(_TEXTS, can_cancel=False)
"""Before the point of no return, and after it."""
_AT_CARD: Final = (list(_TEXTS).index(Step.CARD), len(_TEXTS))
_CHANGING: Final = "changing"
_CANT_TAKE_KEY: Final = frozenset({"card_feature_missing", "card_algorithm_missing"})


class HalfDone(InlayError):
    """What ended an order after its point of no return: the person is told that the card needs another one."""

    def __init__(self, error: InlayError) -> None:
        super().__init__(error.code, **error.fields)

    @property
    def next_step(self) -> str:
        """What to do now."""
        return (
            "The card is half done. Start again from the page, which finishes it; don't use the card before."
        )


class EncodePhysicalCardHandler:
    """The operation *encode card* by the driver ``piv``; see ``agent.order_ports.OrderHandler``."""

    def __init__(self, readers: CardReaders) -> None:
        """Encode cards in these readers."""
        self._readers = readers
        self._done: dict[str, CardSummary] = {}

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page; a new PIN is chosen there, the card's own is asked for when the card is there.

        Raises:
            InlayError: ``encoding_unsupported``, ``pin_policy_unsatisfiable``, ``order_malformed``.
        """
        ordered = _ordered(order)
        _check(ordered)
        policy = ordered.pin.policy
        return OrderPrompt(
            portal_name=portal_name,
            origin=order.origin,
            account=account_line(order),
            title="Encode a card",
            consequences=consequences(ordered),
            pin_policy=None if policy is None else plain_rules(policy),
            confirm_label="Encode",
            card=ordered.label,
        )

    async def perform(self, context: OrderContext) -> None:
        """From consent to the receipt."""
        ordered = _ordered(context.order)
        await context.progress(Step.CONSENT)
        answer = await ask(context, context.prompt)
        card: ReturningCard | None = None
        try:
            if ordered.pin.policy is not None and (
                answer.pin is None or not keeps_rules(plain_rules(ordered.pin.policy), answer.pin)
            ):
                raise WindowFailed(None)
            agreed = await agree(context, total=len(_TEXTS))
            key = PortalKey(context, _management(ordered))
            which = PhysicalCard(ordered.driver, ordered.guid, ordered.label, ordered.identity)
            card = ReturningCard(context, self._readers, which, _AT_CARD, key)
            self._done[context.order.jti] = await _Encoding(context, ordered, card, agreed).carry_out(answer)
        finally:
            answer.wipe()
            if card is not None:
                await card.close()

    async def finish(self, context: OrderContext) -> None:
        """The portal has confirmed; nothing is left to be done to the card."""
        details = self._done.pop(context.order.jti, None)
        with contextlib.suppress(InteractionError):  # the card is encoded, with or without a window
            if details is None:
                await context.window.show_done("The card is encoded", ("It can be used now.",))
            else:
                await context.window.show_details(details)

    async def undo(self, order: Order) -> None:
        """A card that was not changed is as it was; one that was changed can't be put back: only on."""
        self._done.pop(order.jti, None)

    async def receipt_after(self, order: Order, steps: Sequence[tuple[str, str]]) -> Message | None:
        """After a restart: there is never a receipt to send, and a card that was being changed is half done.

        Raises:
            InlayError: ``card_half_done``: the portal may know that the card is changed.
        """
        if any(step == _CHANGING for step, _ in steps):
            raise InlayError("card_half_done")
        return None


class _Encoding:
    """One order's work."""

    def __init__(
        self, context: OrderContext, ordered: EncodeCard, card: ReturningCard, agreed: Proceed
    ) -> None:
        self._context, self._ordered, self._card, self._agreed = context, ordered, card, agreed
        self._steps = _BEFORE

    async def carry_out(self, answer: Consented) -> CardSummary:
        """Up to the receipt; what the window shows in the end.

        Raises:
            HalfDone: it ended after the point of no return.
            InlayError: it ended before.
        """
        try:
            await begin(self._context, Step.CARD, self._steps)
            if answer.pin is not None:
                await self._context.guard(self._card.prove_key())
                return await self._encode(answer.pin)
            pin = await self._pin()
            try:
                await self._context.guard(self._card.prove_key())
                return await self._encode(pin)
            finally:
                wipe(pin)
        except InlayError as error:
            raise (HalfDone(error) if self._steps is _AFTER else error) from None

    async def _pin(self) -> bytearray:
        """The PIN that the portal gives, or the card's own, typed and right; the caller wipes it."""
        if self._ordered.pin.kind == "given":
            return secret(self._context, self._agreed.pin, "pin")
        return await right_pin(
            self._context,
            self._card,
            lambda: show(self._context, Step.CARD, self._steps),
            self._ordered.pin.where,
        )

    async def _encode(self, pin: bytearray) -> CardSummary:
        context, ordered, card = self._context, self._ordered, self._card
        _check_card(card, ordered)
        if _changes_first(ordered):
            await self._change()
        await begin(context, Step.KEYS, self._steps)
        if ordered.identity is not None:
            giving = card.run(_give_identity, ordered.guid, ordered.valid_until)
            await context.guard(context.record("identity", giving))
            card.has_its_guid()
        puk_replaced = ordered.new_puk and await replace_puk(context, card, self._agreed)
        if CardStep.SET_PIN in ordered.steps:
            await context.guard(context.record("set pin", self._set_pin(pin, replaced=puk_replaced)))
        asked = await requests(context, card, ordered.keys, pin)
        await context.send(Requests(guid=ordered.guid, serial=card.serial, requests=asked))
        await begin(context, Step.CERTIFICATES, self._steps)
        issued = await certificates(context, ordered.keys, card.awaiting)
        await self._change()
        await write(context, card, issued, self._steps)
        replaced = await self._replace_key()
        found = await prove(context, card, issued, pin, self._steps)
        await card.close()  # reset, before anything else: what was proved to it is worth nothing any more
        receipt = Receipt(
            guid=ordered.guid, proofs=found, management_replaced=replaced, puk_replaced=puk_replaced
        )
        await context.send(receipt)
        return self._summary(issued)

    async def _change(self) -> None:
        """The point of no return: the portal has it on disk before the card is changed; said once."""
        if self._steps is _BEFORE:
            await self._context.guard(self._context.record(_CHANGING, self._say_changing()))
            self._steps, self._card.changed = _AFTER, True

    async def _say_changing(self) -> None:
        await self._context.send(Changing())
        await self._card.awaiting(self._context.delivered())

    async def _set_pin(self, pin: bytearray, *, replaced: bool) -> None:
        """By the PUK that the card has now."""
        token = self._agreed.new_puk if replaced else self._agreed.puk
        puk = secret(self._context, token, "puk")
        try:
            await self._card.set_pin(puk, pin)
        finally:
            wipe(puk)

    async def _replace_key(self) -> Algorithm | None:
        """Give the card its own management key, of the first algorithm that it takes; None where it takes none."""
        wanted, tokens = _management(self._ordered).replace, self._agreed.management_keys
        if len(tokens) != len(wanted):
            raise DecodeError("params_invalid", "$.management_keys")
        for algorithm, token in zip(wanted, tokens, strict=True):
            key = self._context.decrypt(token)
            try:
                replacing = self._card.run(_set_key, ALGORITHMS[algorithm], key)
                if await self._context.guard(self._context.record("management key", replacing)):
                    return algorithm
            finally:
                wipe(key)
        return None

    def _summary(self, issued: list[IssuedCertificate]) -> CardSummary:
        lines = certificate_lines(self._ordered.keys, issued)
        return CardSummary(self._ordered.label, self._card.serial or "not told", "card", lines)


def _give_identity(card: CardConnection, guid: str, valid_until: int) -> None:
    """Write a CHUID with the order's GUID where the card has another one, and a CCC where it has none."""
    chuid = piv_objects.read_chuid(card)
    if chuid is None or chuid.guid.hex() != guid:
        expires = datetime.datetime.fromtimestamp(valid_until, datetime.UTC).date()
        fresh = piv_objects.fresh_chuid(expires, chuid)
        piv_objects.write_chuid(card, dataclasses.replace(fresh, guid=bytes.fromhex(guid)))
    if piv_objects.read(card, CCC) is None:
        piv_objects.write_ccc(card)


def _set_key(card: CardConnection, algorithm: ManagementAlgorithm, key: bytearray) -> bool:
    try:
        piv_authenticate.set_key(card, algorithm, bytes(key))
    except InlayError as error:
        if error.code not in _CANT_TAKE_KEY:
            raise
        return False
    except ValueError:
        raise DecodeError("params_invalid", "$.management_keys") from None
    return True


def _check_card(card: ReturningCard, ordered: EncodeCard) -> None:
    """What the card has to be able to do, as far as it tells: before anything is lost for it.

    Raises:
        InlayError: ``card_feature_missing``, ``card_algorithm_missing``.
    """
    for key in ordered.keys:
        if key.source is KeySource.IMPORT and not card.imports:
            raise InlayError("card_feature_missing", command="IMPORT KEY")
        if key.source is not KeySource.KEEP and not card.knows(key.algorithm):
            raise InlayError("card_algorithm_missing", algorithm=key.algorithm.value)


def _changes_first(ordered: EncodeCard) -> bool:
    """Whether something that nothing undoes comes before the certificates."""
    made = any(key.source is KeySource.GENERATE for key in ordered.keys)
    return made or ordered.identity is not None or CardStep.SET_PIN in ordered.steps


def _check(ordered: EncodeCard) -> None:
    """What this version can do with a physical card."""
    check_keys(ordered.keys, frozenset(KeySource))
    _management(ordered)
    others = [step.value for step in ordered.steps if step is not CardStep.SET_PIN]
    if others:
        raise InlayError("encoding_unsupported", what=f"the step {others[0]}")
    entry, sets = ordered.pin, CardStep.SET_PIN in ordered.steps
    wanted = ("new", "given") if sets else ("verify",)
    # the PUK of a new PIN comes from the portal: nobody could type it at the reader
    chosen = entry.kind == "new"
    if entry.kind not in wanted or (sets and entry.where == "pad") or (entry.policy is not None) != chosen:
        raise InlayError("encoding_unsupported", what=f"the PIN entry {entry.kind} {entry.where}")
    if ordered.new_puk and not sets:
        raise InlayError("encoding_unsupported", what="a new PUK without a new PIN")
    if entry.policy is not None:
        plain_rules(entry.policy)


def _management(ordered: EncodeCard) -> ManagementKey:
    if ordered.management is None:
        raise DecodeError("order_malformed", "$.parameters.management")
    return ordered.management


def _ordered(order: Order) -> EncodeCard:
    if not isinstance(order.parameters, EncodeCard):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters


def consequences(ordered: EncodeCard) -> tuple[str, ...]:
    """What an order does to the card, as consent shows it."""
    made = [key.purpose.value for key in ordered.keys if key.source is KeySource.GENERATE]
    kept = [key.purpose.value for key in ordered.keys if key.source is KeySource.KEEP]
    lines = []
    if made:
        lines.append(f"The card gets new keys and certificates for {' and '.join(made)}; the old keys go.")
    if kept:
        lines.append(f"The card gets new certificates for the keys it has for {' and '.join(kept)}.")
    if any(key.source is KeySource.IMPORT for key in ordered.keys):
        lines.append("It gets encryption keys that the portal keeps a copy of.")
    lines.append(f"The new certificates are valid until {day(ordered.valid_until)}.")
    if ordered.pin.kind == "given":
        lines.append("The portal sets its first PIN, and tells its holder.")
    elif CardStep.SET_PIN in ordered.steps:
        lines.append("You choose its new PIN now; the old one is forgotten.")
    else:
        at = " at the keys of the reader" if ordered.pin.where == "pad" else ""
        lines.append(f"Its PIN stays; you are asked for it{at} when the card is there.")
    lines.append(f"You need the card, and a reader{' with keys' if ordered.pin.where == 'pad' else ''}.")
    return tuple(lines)
