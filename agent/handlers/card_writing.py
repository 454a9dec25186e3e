"""What orders that put keys and certificates on a card have in common: make or import, request, write, prove.

The card is new or a copy (``agent.card_copies``): either way nobody else has it yet, and what fails leaves nothing
behind once the order is undone. The PIN belongs to the caller, who wipes it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509

from agent.certificates import UNREADABLE
from agent.ports import CardSummary, CertificateLine
from protocol import proofs
from protocol.errors import DecodeError
from protocol.messages import Algorithm, Certificates, KeyCount, KeySource, Purpose, SlotProof, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent.order_ports import KeyedCard, OrderContext
    from agent.virtual_card_ports import CardFacts, Shown
    from protocol.messages import CertificateRequest, IssuedCertificate, KeyOrder, Order

_SIGNING_SLOTS: Final = frozenset({"9A", "9C", "9E"})
STEPS: Final = {
    Step.BINDING: "Waiting for the page",
    Step.KEYS: "Making the card and its keys",
    Step.CERTIFICATES: "Waiting for the certificates",
    Step.WRITING: "Writing the certificates",
    Step.PROVING: "Checking the card",
    Step.FINISHED: "Waiting for the portal to confirm",
}
"""What the window says at each step."""
SETTLED: Final = frozenset(KeySource) - {KeySource.IMPORT_IF_POSSIBLE}
"""Sources of keys by drivers whose cards all take keys that were made elsewhere."""


class Steps(NamedTuple):
    """The steps of an order, as its window counts and names them.

    Attributes:
        texts: all steps, in their order, with what the window says at each.
        can_cancel: whether a window that is closed ends the order.
    """

    texts: Mapping[Step, str]
    can_cancel: bool = True


ON_A_COPY: Final = Steps(STEPS)
"""Nobody else has the card yet: closed at any step, nothing is left."""


def check_keys(
    keys: Sequence[KeyOrder],
    sources: frozenset[KeySource],
    *,
    optional: bool = False,
    policies: bool = False,
) -> None:
    """Check that an order names each key once, and from where it can come here.

    Args:
        keys: the order's.
        sources: from where they can come.
        optional: whether there may be keys that a card goes on without, or none at all.
        policies: whether keys may say when they ask for the PIN and for a touch.

    Raises:
        DecodeError: ``order_malformed``.
    """
    if not policies and any(key.pin_policy or key.touch_policy for key in keys):
        raise DecodeError("order_malformed", "$.parameters.keys")
    if not keys and not optional:
        raise DecodeError("order_malformed", "$.parameters.keys")
    slots = [key.slot for key in keys]
    left_out = [key for key in keys if key.optional]
    if len(set(slots)) != len(slots) or not {key.source for key in keys} <= sources:
        raise DecodeError("order_malformed", "$.parameters.keys")
    if left_out and (not optional or any(key.source is not KeySource.IMPORT for key in left_out)):
        raise DecodeError("order_malformed", "$.parameters.keys")


async def begin(context: OrderContext, step: Step, steps: Steps = ON_A_COPY) -> None:
    """Show a step, and tell portal and page that it begins."""
    await show(context, step, steps)
    await context.progress(step)


async def show(
    context: OrderContext, step: Step, steps: Steps = ON_A_COPY, key: KeyCount | None = None
) -> None:
    """Show a step in the window, and with the keys which of them is made now."""
    done, total = list(steps.texts).index(step), len(steps.texts)
    text = steps.texts[step] if key is None else f"{steps.texts[step]}: key {key.number} of {key.of}"
    await context.window.show_progress(
        step.value, text, done, total, can_cancel=steps.can_cancel and step is not Step.FINISHED
    )


async def requests(
    context: OrderContext,
    card: KeyedCard,
    keys: Sequence[KeyOrder],
    pin: bytearray,
    slow: Steps | None = None,
) -> list[CertificateRequest]:
    """Make the keys that are made on the card, and ask for certificates for them and for those that stay.

    Args:
        context: the order.
        card: its card.
        keys: its keys.
        pin: the card's.
        slow: what the window says, of a card that takes its time for each key: it is told which one it makes.
    """
    made = [key.slot for key in keys if key.source is KeySource.GENERATE]
    found = []
    for key in keys:
        if key.source is KeySource.IMPORT:
            continue
        if slow is not None and key.slot in made and len(made) > 1:
            count = KeyCount(number=made.index(key.slot) + 1, of=len(made))
            await show(context, Step.KEYS, slow, count)
            await context.progress(Step.KEYS, count)
        found.append(await context.guard(_requested(context, card, key, pin)))
    return found


async def certificates(
    context: OrderContext,
    keys: Sequence[KeyOrder],
    awaiting: Callable[[Awaitable[Certificates]], Awaitable[Certificates]] | None = None,
) -> list[IssuedCertificate]:
    """Wait for the certificates, in the order's own sequence of keys.

    Args:
        context: the order.
        keys: those of the order.
        awaiting: waits for the portal, where a card has to be kept alive meanwhile.

    Raises:
        DecodeError: ``params_invalid``: they are not those of the order.
    """
    coming = context.receive(Certificates)
    answer = await context.guard(coming if awaiting is None else awaiting(coming))
    return _matching(keys, answer.certificates)


async def write(
    context: OrderContext,
    card: KeyedCard,
    issued: Sequence[IssuedCertificate],
    steps: Steps = ON_A_COPY,
) -> None:
    """Put the keys that come with the certificates on the card, then the certificates themselves."""
    for item in issued:
        if item.key is not None:
            importing = import_key(context, card, item.slot, item.key)
            await context.guard(context.record(f"import {item.slot}", importing))
    await begin(context, Step.WRITING, steps)
    for item in issued:
        writing = card.write_certificate(item.slot, item.certificate)
        await context.guard(context.record(f"write {item.slot}", writing))


async def certified(
    context: OrderContext, card: KeyedCard, keys: Sequence[KeyOrder]
) -> list[IssuedCertificate]:
    """Wait for the certificates, and put them and the keys that come with them on the card.

    Raises:
        DecodeError: ``params_invalid``: they are not those of the order.
    """
    await begin(context, Step.CERTIFICATES)
    issued = await certificates(context, keys)
    await write(context, card, issued)
    return issued


async def prove(
    context: OrderContext,
    card: KeyedCard,
    issued: Sequence[IssuedCertificate],
    pin: bytearray,
    steps: Steps = ON_A_COPY,
) -> list[SlotProof]:
    """Use every key once, by what it is for; the receipt comes next, and from then on the portal decides."""
    await begin(context, Step.PROVING, steps)
    found = [await context.guard(_proof(context.order, card, item, pin)) for item in issued]
    await show(context, Step.FINISHED, steps)
    return found


def summary(
    keys: Sequence[KeyOrder], facts: CardFacts, shown: Shown, *notes: str, others: str | None = None
) -> CardSummary:
    """What the window shows of a card at the end.

    Args:
        keys: those of the order, which say what each is for.
        facts: the card.
        shown: in which reader it is.
        notes: further sentences.
        others: what a certificate of a key that the order doesn't name is called; None: by its key.
    """
    purposes = {key.slot: key.purpose.value for key in keys}
    said = [f"Other programs find it in the reader “{shown.reader}”."] if shown.reader else []
    if shown.problem is not None:
        said.append(f"{shown.problem.happened} {shown.problem.why} {shown.problem.next_step}")
    lines = tuple(
        _line(purposes.get(item.slot, others or item.slot), item.certificate) for item in facts.certificates
    )
    return CardSummary(facts.label, facts.serial, facts.level.value, lines, (*said, *notes))


def certificate_lines(
    keys: Sequence[KeyOrder], issued: Sequence[IssuedCertificate]
) -> tuple[CertificateLine, ...]:
    """What the window shows of certificates that an order has brought."""
    purposes = {key.slot: key.purpose.value for key in keys}
    return tuple(_line(purposes[item.slot], item.certificate) for item in issued)


def day(seconds: int) -> str:
    """A day, as ISO 8601 writes it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def wipe(secret: bytearray | None) -> None:
    """Overwrite a secret with zeros."""
    if secret is not None:
        secret[:] = bytes(len(secret))


async def _requested(
    context: OrderContext, card: KeyedCard, key: KeyOrder, pin: bytearray
) -> CertificateRequest:
    if key.source is KeySource.GENERATE:
        await context.record(f"generate {key.slot}", card.generate(key.slot, key.algorithm))
    signs = key.algorithm is Algorithm.RSA_2048 or key.slot in _SIGNING_SLOTS
    return await card.request(key.slot, key.subject, pin, signs=signs)


async def import_key(context: OrderContext, card: KeyedCard, slot: str, token: str) -> None:
    """Put a key that came encrypted on the card."""
    pkcs8 = context.decrypt(token)
    try:
        await card.import_key(slot, pkcs8)
    finally:
        wipe(pkcs8)


async def _proof(order: Order, card: KeyedCard, item: IssuedCertificate, pin: bytearray) -> SlotProof:
    """What shows that the key in a slot belongs to its certificate (design principle 9)."""
    digest = proofs.certificate_hash(item.certificate)
    if item.challenge is not None:
        secret = await card.answer(item.slot, item.challenge, pin)
        mac = proofs.mac(secret, order.origin, order.jti, item.certificate)
        return SlotProof(slot=item.slot, certificate_sha256=digest, mac=mac)
    message = proofs.signature_input(order.origin, order.jti, item.certificate)
    signature = await card.sign(item.slot, message, pin)
    return SlotProof(slot=item.slot, certificate_sha256=digest, signature=signature)


def _matching(keys: Sequence[KeyOrder], issued: Sequence[IssuedCertificate]) -> list[IssuedCertificate]:
    """The certificates in the order's own sequence: one for each key, with what that key needs."""
    by_slot = {item.slot: item for item in issued}
    if len(by_slot) != len(issued) or by_slot.keys() != {key.slot for key in keys}:
        raise DecodeError("params_invalid", "$.certificates")
    for key in keys:
        item = by_slot[key.slot]
        if (item.key is not None) != (key.source is KeySource.IMPORT):
            raise DecodeError("params_invalid", f"$.certificates.{key.slot}.key")
        if (item.challenge is not None) != (key.purpose is Purpose.ENCRYPTION):
            raise DecodeError("params_invalid", f"$.certificates.{key.slot}.challenge")
    return [by_slot[key.slot] for key in keys]


def _line(purpose: str, der: bytes) -> CertificateLine:
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject = certificate.subject.rfc4514_string()
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (
        UNREADABLE
    ):  # it is on the card by now, and its key has proved itself: the order doesn't end by its name
        return CertificateLine(purpose, "A certificate whose name can't be read", "?", "?")
    return CertificateLine(purpose, subject, since.date().isoformat(), until.date().isoformat())
