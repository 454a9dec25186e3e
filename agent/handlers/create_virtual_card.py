"""*Create virtual card*: from consent to a card that proves itself, and back to nothing where that fails.

What can be refused is refused before anything is created. The PIN lives in this process from consent to the
receipt, and is wiped then; it is never written anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import secrets
from typing import TYPE_CHECKING, Final

from cryptography import x509

from agent.order_ports import CardFacts, CardInProgress, CardOwner, Cards, OrderContext, Shown
from agent.pin_rules import keeps_rules, plain_rules
from agent.ports import (
    CardSummary,
    CertificateLine,
    InteractionError,
    OrderPrompt,
    WindowFailed,
)
from agent.ports import (
    Consented as Agreement,
)
from protocol import jose, proofs
from protocol.errors import DecodeError, InlayError
from protocol.messages import (
    Algorithm,
    CertificateRequest,
    Certificates,
    Consented,
    CreateVirtualCard,
    IssuedCertificate,
    KeyOrder,
    KeySource,
    Order,
    Proceed,
    Purpose,
    Receipt,
    Requests,
    SlotProof,
    Step,
    StorageLevel,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

CONSENT_SECONDS: Final = 600
"""How long the window waits for a person."""

_SIGNING_SLOTS: Final = frozenset({"9A", "9C", "9E"})
_STEPS: Final = {
    Step.BINDING: "Waiting for the page",
    Step.KEYS: "Making the card and its keys",
    Step.CERTIFICATES: "Waiting for the certificates",
    Step.WRITING: "Writing the certificates",
    Step.PROVING: "Checking the card",
    Step.FINISHED: "Waiting for the portal to confirm",
}


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
        slots = [key.slot for key in parameters.keys]
        if len(set(slots)) != len(slots):
            raise DecodeError("order_malformed", "$.parameters.keys")
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
            issued = await self._certified(context, card, pin)
            await self._write(context, card, issued)
            await self._prove(context, card, issued, pin)
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
            await context.window.show_details(_summary(context.order, facts, shown, puk_lost=lost), puk)
        _wipe(puk)

    async def undo(self, order: Order) -> None:
        """Remove the card and its keys."""
        owner = _owner_of(order)
        _wipe(self._puks.pop(owner, None))
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
            await _show(context, Step.BINDING)
        await context.guard(context.receive(Proceed))

    async def _make(self, context: OrderContext, level: StorageLevel, pin: bytearray) -> CardInProgress:
        """Make the card and its own keys, and ask for the certificates."""
        await _begin(context, Step.KEYS)
        order = context.order
        owner = _owner_of(order)
        puk = bytearray(f"{secrets.randbelow(10**8):08d}", "ascii")
        self._puks[owner] = puk
        parameters = _ordered(order)
        making = self._cards.make(owner, level, parameters.label, pin, puk, parameters.pin_policy)
        card = await context.guard(context.record("make", making))
        requests = []
        for key in _ordered(order).keys:
            if key.source is KeySource.GENERATE:
                requests.append(await context.guard(self._key(context, card, key, pin)))
        escrow = _ordered(order).escrow_key
        facts = card.facts
        await context.send(
            Requests(
                guid=facts.guid,
                serial=facts.serial,
                requests=requests,
                puk=None if escrow is None else jose.encrypt(puk, escrow),
            )
        )
        if escrow is not None:
            _wipe(self._puks.pop(owner))
        return card

    async def _key(
        self, context: OrderContext, card: CardInProgress, key: KeyOrder, pin: bytearray
    ) -> CertificateRequest:
        await context.record(f"generate {key.slot}", card.generate(key.slot, key.algorithm))
        signs = key.algorithm is Algorithm.RSA_2048 or key.slot in _SIGNING_SLOTS
        return await card.request(key.slot, key.subject, pin, signs=signs)

    async def _certified(
        self, context: OrderContext, card: CardInProgress, pin: bytearray
    ) -> list[IssuedCertificate]:
        """Wait for the certificates, and put the keys that come with them on the card."""
        await _begin(context, Step.CERTIFICATES)
        answer = await context.guard(context.receive(Certificates))
        issued = _matching(_ordered(context.order).keys, answer.certificates)
        for item in issued:
            if item.key is not None:
                await context.guard(
                    context.record(f"import {item.slot}", self._import(context, card, item.slot, item.key))
                )
        return issued

    async def _import(self, context: OrderContext, card: CardInProgress, slot: str, token: str) -> None:
        pkcs8 = context.decrypt(token)
        try:
            await card.import_key(slot, pkcs8)
        finally:
            _wipe(pkcs8)

    async def _write(
        self, context: OrderContext, card: CardInProgress, issued: Sequence[IssuedCertificate]
    ) -> None:
        await _begin(context, Step.WRITING)
        for item in issued:
            writing = card.write_certificate(item.slot, item.certificate)
            await context.guard(context.record(f"write {item.slot}", writing))

    async def _prove(
        self,
        context: OrderContext,
        card: CardInProgress,
        issued: Sequence[IssuedCertificate],
        pin: bytearray,
    ) -> None:
        """Use every key once, by what it is for, and send the receipt: from then on the portal decides."""
        await _begin(context, Step.PROVING)
        found = [await context.guard(_proof(context.order, card, item, pin)) for item in issued]
        await _show(context, Step.FINISHED, can_cancel=False)
        facts = card.facts
        await context.send(
            Receipt(guid=facts.guid, generation=facts.generation, storage=facts.level, proofs=found)
        )


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


async def _begin(context: OrderContext, step: Step) -> None:
    await _show(context, step)
    await context.progress(step)


async def _show(context: OrderContext, step: Step, *, can_cancel: bool = True) -> None:
    done = list(_STEPS).index(step)
    await context.window.show_progress(step.value, _STEPS[step], done, len(_STEPS), can_cancel=can_cancel)


async def _proof(order: Order, card: CardInProgress, item: IssuedCertificate, pin: bytearray) -> SlotProof:
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
    """The certificates in the order's own sequence: one for each key, with what that key needs.

    Raises:
        DecodeError: ``params_invalid``: they are not those of the order.
    """
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


def _consequences(order: Order) -> list[str]:
    parameters = _ordered(order)
    purposes = ", ".join(key.purpose.value for key in parameters.keys)
    lines = [
        f"A new virtual smart card, “{parameters.label}”, is made on this computer.",
        f"It gets certificates for {purposes}, valid until {_date(parameters.valid_until)}.",
        "Every program of yours can use it as a card in a reader, with the PIN that you choose now.",
    ]
    if any(key.source is KeySource.IMPORT for key in parameters.keys):
        lines.append("The encryption key comes from the portal, which keeps a copy to recover it by.")
    if parameters.puk == "escrow":
        lines.append("The PUK of the card goes to the portal, encrypted, and is kept there.")
    else:
        lines.append("The PUK, which unblocks the PIN, is shown to you once at the end.")
    return lines


def _summary(order: Order, facts: CardFacts, shown: Shown, *, puk_lost: bool) -> CardSummary:
    purposes = {key.slot: key.purpose.value for key in _ordered(order).keys}
    notes = [f"Other programs find it in the reader “{shown.reader}”."] if shown.reader else []
    if shown.problem is not None:
        notes.append(f"{shown.problem.happened} {shown.problem.why} {shown.problem.next_step}")
    if puk_lost:
        notes.append("The PUK can't be shown any more: Inlay was stopped before the card was confirmed.")
    lines = tuple(_line(purposes.get(item.slot, item.slot), item.certificate) for item in facts.certificates)
    return CardSummary(facts.label, facts.serial, facts.level.value, lines, tuple(notes))


def _line(purpose: str, der: bytes) -> CertificateLine:
    certificate = x509.load_der_x509_certificate(der)
    return CertificateLine(
        purpose,
        certificate.subject.rfc4514_string(),
        certificate.not_valid_before_utc.date().isoformat(),
        certificate.not_valid_after_utc.date().isoformat(),
    )


def _date(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def _wipe(secret: bytearray | None) -> None:
    if secret is not None:
        secret[:] = bytes(len(secret))
