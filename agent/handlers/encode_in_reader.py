"""What *encode card* has in common for all cards in readers: consent, its steps, its end, the point of no return."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from agent.handlers import card_objects
from agent.handlers.card_writing import Steps, certificate_lines, day
from agent.handlers.order_steps import account_line, agree, ask, secret
from agent.pin_rules import keeps_rules, plain_rules
from agent.ports import CardSummary, InteractionError, OrderPrompt, WindowFailed
from protocol import half_done
from protocol.errors import DecodeError, InlayError
from protocol.key_policies import wants_touch
from protocol.messages import CardStep, Changing, EncodeCard, KeySource, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.ordered_card import CardReaders
    from agent.ports import Consented
    from agent.returning_card import ReturningCard
    from agent.returning_token import ReturningToken
    from protocol.messages import IssuedCertificate, Message, Order, Proceed

_TEXTS: Final = {
    Step.BINDING: "Waiting for the page",
    Step.CARD: "Looking for the card",
    Step.KEYS: "Preparing the card's keys",
    Step.CERTIFICATES: "Waiting for the certificates",
    Step.WRITING: "Writing the certificates. Leave the card in the reader",
    Step.PROVING: "Checking the card",
    Step.FINISHED: "Waiting for the portal to confirm",
}
_TOUCH: Final = "Touch it whenever it blinks"
_WITH_TOUCH: Final = {
    **_TEXTS,
    Step.KEYS: f"{_TEXTS[Step.KEYS]}. {_TOUCH}",
    Step.PROVING: f"{_TEXTS[Step.PROVING]}. {_TOUCH}",
}
"""What the window says where keys of the order work after a touch of the card alone."""
_CHANGING: Final = "changing"
AT_CARD: Final = (list(_TEXTS).index(Step.CARD), len(_TEXTS))


class HalfDone(InlayError):
    """What ended an order after its point of no return: the person is told that the card needs another order."""

    def __init__(self, error: InlayError) -> None:
        super().__init__(error.code, **error.fields)

        self._error = error

    @property
    def next_step(self) -> str:
        """What to do now."""
        return half_done.next_step(self._error)


class EncodeInReader(ABC):
    """The operation *encode card* for a card in a reader; see ``agent.order_ports.OrderHandler``."""

    def __init__(self, readers: CardReaders) -> None:
        """Encode cards in these readers."""
        self._readers = readers
        self._done: dict[str, CardSummary] = {}

    @abstractmethod
    def _check(self, ordered: EncodeCard) -> None:
        """See that this driver can do what is ordered.

        Raises:
            InlayError: ``encoding_unsupported``, ``pin_policy_unsatisfiable``, ``order_malformed``.
        """

    @abstractmethod
    async def _encode(
        self, context: OrderContext, ordered: EncodeCard, answer: Consented, agreed: Proceed
    ) -> CardSummary:
        """From the portal's word to the receipt; what the window shows in the end."""

    def prompt(self, order: Order, portal_name: str) -> OrderPrompt:
        """The consent page; a new PIN is chosen there, the card's own is asked for when the card is there.

        Raises:
            InlayError: ``encoding_unsupported``, ``pin_policy_unsatisfiable``, ``order_malformed``.
        """
        ordered = ordered_of(order)
        self._check(ordered)
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
        ordered = ordered_of(context.order)
        await context.progress(Step.CONSENT)
        answer = await ask(context, context.prompt)
        try:
            if ordered.pin.policy is not None and (
                answer.pin is None or not keeps_rules(plain_rules(ordered.pin.policy), answer.pin)
            ):
                raise WindowFailed(None)
            agreed = await agree(context, total=len(_TEXTS))
            self._done[context.order.jti] = await self._encode(context, ordered, answer, agreed)
        finally:
            answer.wipe()

    async def finish(self, context: OrderContext) -> None:
        """The portal has confirmed; nothing is left to be done to the card."""
        details = self._done.pop(context.order.jti, None)
        if not ordered_of(context.order).keys:
            await (
                context.window.close()
            )  # one of many: the page says so, and the next one's window comes in its place
            return
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


class Encoding:
    """One order's work, before and after its point of no return.

    Attributes:
        steps: what the window says now.
    """

    def __init__(
        self,
        context: OrderContext,
        ordered: EncodeCard,
        card: ReturningCard | ReturningToken,
        agreed: Proceed,
    ) -> None:
        self.context, self.ordered, self._changes, self.agreed = context, ordered, card, agreed
        self.steps = Steps(_WITH_TOUCH if any(map(wants_touch, ordered.keys)) else _TEXTS)

    @property
    def half_done(self) -> bool:
        """Whether the point of no return was passed."""
        return not self.steps.can_cancel

    async def change(self) -> None:
        """The point of no return: the portal has it on disk before the card is changed; said once."""
        if not self.half_done:
            await self.context.guard(self.context.record(_CHANGING, self._say_changing()))
            self.steps, self._changes.changed = self.steps._replace(can_cancel=False), True

    async def _say_changing(self) -> None:
        await self.context.send(Changing())
        await self._wait_delivered()

    async def _wait_delivered(self) -> None:
        await self.context.delivered()

    def puk(self) -> bytearray:
        """The PUK that came with ``proceed``; the caller wipes it.

        Raises:
            DecodeError: ``params_invalid``: none came.
        """
        return secret(self.context, self.agreed.puk, "puk")

    def summary(self, issued: Sequence[IssuedCertificate], serial: str | None, *notes: str) -> CardSummary:
        """What the window shows in the end, with further sentences."""
        lines = certificate_lines(self.ordered.keys, issued)
        return CardSummary(self.ordered.label, serial or "not told", "card", lines, notes)


def check_pin_entry(ordered: EncodeCard, new: frozenset[str] = frozenset({"new"})) -> None:
    """See that the PIN comes from where it can.

    Args:
        ordered: the order.
        new: kinds of PIN entry by which a new PIN can come.

    Raises:
        InlayError: ``encoding_unsupported``, ``pin_policy_unsatisfiable``.
    """
    entry, sets = ordered.pin, CardStep.SET_PIN in ordered.steps
    wanted = new if sets else frozenset({"verify"})
    chosen = entry.kind == "new"
    # the PUK of a new PIN comes from the portal: nobody could type it at the reader
    if entry.kind not in wanted or (sets and entry.where == "pad") or (entry.policy is not None) != chosen:
        raise InlayError("encoding_unsupported", what=f"the PIN entry {entry.kind} {entry.where}")
    if entry.policy is not None:
        plain_rules(entry.policy)


def check_prepared(ordered: EncodeCard) -> None:
    """See that an order without keys makes a card ready, in everything that its next order counts on.

    Raises:
        InlayError: ``encoding_unsupported``.
    """
    entry_fits = ordered.pin.kind == "given" and CardStep.SET_PIN in ordered.steps
    if ordered.identity is None or not ordered.new_puk or not entry_fits:
        raise InlayError("encoding_unsupported", what="no keys, and not all that a card without any needs")


def ordered_of(order: Order) -> EncodeCard:
    """What is ordered.

    Raises:
        DecodeError: ``order_malformed``.
    """
    if not isinstance(order.parameters, EncodeCard):
        raise DecodeError("order_malformed", "$.parameters.operation")
    return order.parameters


def earlier_notes(wanted: EncodeCard, issued: Sequence[IssuedCertificate]) -> list[str]:
    """What the window says of earlier keys: how many the card has taken."""
    optional = {key.slot for key in wanted.keys if key.optional}
    if not optional:
        return []
    taken = sum(item.slot in optional for item in issued)
    found = f"{taken} of {len(optional)} earlier encryption keys are on the card, for old messages."
    if taken == len(optional):
        return [found]
    return [f"{found} It hasn't room for more, or takes no keys; the portal's archive has the others."]


def _purposes(ordered: EncodeCard, source: KeySource) -> list[str]:
    """What the keys of one source are for, each purpose once: a card may have two keys for authentication."""
    return list(dict.fromkeys(key.purpose.value for key in ordered.keys if key.source is source))


def consequences(ordered: EncodeCard) -> tuple[str, ...]:
    """What an order does to the card, as consent shows it: a sentence each, in the order in which it is done."""
    lines = []
    if CardStep.INITIALISE in ordered.steps:
        lines.append("It erases the card: every key and certificate on it is gone.")
    lines += _about_keys(ordered)
    if ordered.clear_retired or ordered.clear:
        lines.append("Keys of whoever had the card before are removed.")
    lines += card_objects.consequences(ordered)
    if ordered.keys:
        lines.append(f"The new certificates are valid until {day(ordered.valid_until)}.")
    else:
        lines.append(
            "The card is made ready for whoever gets it: nobody's keys and certificates are on it then."
        )
    return (*lines, *_about_pin(ordered))


def _about_keys(ordered: EncodeCard) -> list[str]:
    made = _purposes(ordered, KeySource.GENERATE)
    kept = _purposes(ordered, KeySource.KEEP)
    lines = []
    if made:
        lines.append(f"The card gets new keys and certificates for {' and '.join(made)}; the old keys go.")
    if kept:
        lines.append(f"The card gets new certificates for the keys it has for {' and '.join(kept)}.")
    if any(key.source is KeySource.IMPORT and not key.optional for key in ordered.keys):
        lines.append("It gets encryption keys that the portal keeps a copy of.")
    if any(key.source is KeySource.IMPORT_IF_POSSIBLE for key in ordered.keys):
        lines.append(
            "It gets an encryption key that the portal keeps a copy of. A card that takes no such key makes one "
            "itself: what that encrypts is lost with the card."
        )
    if touched := dict.fromkeys(key.purpose.value for key in ordered.keys if wants_touch(key)):
        lines.append(
            f"Its key for {' and '.join(touched)} works after a touch of the card alone. Touch it when it blinks."
        )
    if earlier := sum(key.optional for key in ordered.keys):
        lines.append(
            f"It gets {earlier} earlier encryption keys of its holder, for old messages, as far as it has room."
        )
    return lines


def _about_pin(ordered: EncodeCard) -> tuple[str, str]:
    pad = ordered.pin.where == "pad"
    reader = f"You need the card, and a reader{' with keys' if pad else ''}."
    if ordered.pin.kind == "given":
        return "The portal sets its first PIN: nobody types one here.", reader
    if CardStep.SET_PIN in ordered.steps:
        return "You choose its new PIN now; the old one is forgotten.", reader
    at = " at the keys of the reader" if pad else ""
    return f"Its PIN stays; you are asked for it{at} when the card is there.", reader
