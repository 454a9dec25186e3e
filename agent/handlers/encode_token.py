"""*Encode card* by the driver ``pkcs11``: a card of any maker, through the module that an administrator configured.

A token holds several keys at once, so new ones are made beside the old ones, certified and proved there; only then are
the old ones deleted. Until that moment an order that ends leaves the card as it was. An order that erases the card or
sets its PIN has its point of no return before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.handlers import token_earlier_keys
from agent.handlers.card_writing import (
    SETTLED,
    begin,
    certificates,
    check_keys,
    prove,
    requests,
    show,
    wipe,
    write,
)
from agent.handlers.encode_in_reader import (
    AT_CARD,
    EncodeInReader,
    Encoding,
    HalfDone,
    check_pin_entry,
    earlier_notes,
)
from agent.handlers.order_steps import secret
from agent.handlers.token_pin_entry import right_token_pin
from agent.handlers.token_puk import TokenPuk
from agent.returning_card import PhysicalCard
from agent.returning_token import ReturningToken
from agent.unbroken import to_its_end
from protocol.errors import DecodeError, InlayError
from protocol.messages import CardStep, KeySource, Receipt, Requests, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.pcsc.pkcs11_tokens import Token
    from agent.ports import CardSummary, Consented
    from protocol.messages import EncodeCard, IssuedCertificate, Proceed


class EncodeTokenHandler(EncodeInReader):
    """The operation *encode card* by the driver ``pkcs11``."""

    def _check(self, ordered: EncodeCard) -> None:
        check_keys(ordered.keys, SETTLED, optional=True)
        if ordered.objects:
            raise InlayError("encoding_unsupported", what="data objects")
        if ordered.management is not None or ordered.identity is not None:
            raise DecodeError("order_malformed", "$.parameters.management")
        steps = set(ordered.steps)
        if CardStep.BLOCK in steps:
            raise InlayError("encoding_unsupported", what="the step block")
        if CardStep.INITIALISE in steps and CardStep.SET_PIN not in steps:
            raise InlayError("encoding_unsupported", what="the step initialise without set_pin")
        if CardStep.SET_LABEL in steps and CardStep.INITIALISE not in steps:
            raise InlayError("encoding_unsupported", what="the step set_label without initialise")
        if CardStep.INITIALISE in steps and any(key.source is KeySource.KEEP for key in ordered.keys):
            raise InlayError("encoding_unsupported", what="a key that is kept, and the step initialise")
        check_pin_entry(ordered, frozenset({"new", "given"}))
        if ordered.new_puk and CardStep.SET_PIN not in steps:
            raise InlayError("encoding_unsupported", what="a new PUK without a new PIN")
        if ordered.reset:
            raise InlayError("encoding_unsupported", what="a reset")
        if ordered.attest == "required":
            raise InlayError("encoding_unsupported", what="attestation")

    async def _encode(
        self, context: OrderContext, ordered: EncodeCard, answer: Consented, agreed: Proceed
    ) -> CardSummary:
        which = PhysicalCard(ordered.driver, ordered.guid, ordered.label)
        labels = {key.slot: key.purpose.value + (", earlier" if key.optional else "") for key in ordered.keys}
        card = ReturningToken(context, self._readers, which, AT_CARD, labels)
        try:
            return await _Encoding(context, ordered, card, agreed).carry_out(answer)
        finally:
            await card.close()


class _Encoding(Encoding):
    """One order's work on a token."""

    def __init__(
        self, context: OrderContext, ordered: EncodeCard, card: ReturningToken, agreed: Proceed
    ) -> None:
        super().__init__(context, ordered, card, agreed)
        self._card, self._puk_replaced = card, False
        card.may_be_blank = CardStep.INITIALISE in ordered.steps

    async def carry_out(self, answer: Consented) -> CardSummary:
        """Up to the receipt; what the window shows in the end.

        Raises:
            HalfDone: it ended after the point of no return.
            InlayError: it ended before, and what the order has put on the card is taken back.
        """
        pin: bytearray | None = None
        try:
            await begin(self.context, Step.CARD, self.steps)
            token = _writable(await self.context.guard(self._card.look()))
            await self._see_that_it_makes_the_keys()
            if answer.pin is not None:
                _check_length(token, answer.pin)
                await self._prepare(answer.pin)
            elif self.ordered.pin.kind == "given":
                pin = secret(self.context, self.agreed.pin, "pin")
                _check_length(token, pin)
                await self._prepare(pin)
            else:
                pin = await right_token_pin(self.context, self._card, self._show, self.ordered.pin.where)
            return await self._put_on(token, answer.pin or pin or bytearray())
        except InlayError as error:
            if self.half_done:
                raise HalfDone(error) from None
            await to_its_end(self._card.take_back())
            raise
        finally:
            wipe(pin)

    async def _show(self) -> None:
        await show(self.context, Step.CARD, self.steps)

    async def _see_that_it_makes_the_keys(self) -> None:
        """What the module has no way for is told before anything is changed.

        Raises:
            InlayError: ``pkcs11_makes_no_keys``.
        """
        for algorithm in {key.algorithm for key in self.ordered.keys if key.source is KeySource.GENERATE}:
            if not await self.context.guard(self._card.can_make(algorithm)):
                raise InlayError("pkcs11_makes_no_keys", algorithm=algorithm.value)

    async def _prepare(self, pin: bytearray) -> None:
        """Erase the card and give it a PUK of its own, as far as that is ordered, and set its PIN.

        All of it by the PUK, which is proved before, and in this order: so each command with a PIN stands alone when
        its answer doesn't come.
        """
        context, card, steps = self.context, self._card, self.ordered.steps
        own = TokenPuk(context, card, self.agreed, self._announce) if self.ordered.new_puk else None
        puk = self.puk()
        try:
            if own is not None and await own.has_new():
                self._puk_replaced = True
                wipe(puk)
                puk = secret(context, self.agreed.new_puk, "new_puk")
            else:
                await context.guard(card.prove_puk(puk))
            await self.change()
            if CardStep.INITIALISE in steps:
                label = _label(self.ordered.label) if CardStep.SET_LABEL in steps else None
                await to_its_end(context.record("initialise", card.initialise(puk, label)))
            if own is not None and not self._puk_replaced:
                self._puk_replaced = await own.replace(puk)
            await to_its_end(context.record("set pin", card.set_pin(puk, pin)))
        finally:
            wipe(puk)

    async def _announce(self) -> None:
        await self.change()
        await self._show()

    async def _put_on(self, token: Token, pin: bytearray) -> CardSummary:
        context, ordered, card = self.context, self.ordered, self._card
        if ordered.clear_retired or ordered.clear:
            await self.change()
            await token_earlier_keys.clear(context, card, ordered)
        await begin(context, Step.KEYS, self.steps)
        asked = await requests(context, card, ordered.keys, pin, self.steps)
        await context.send(Requests(guid=ordered.guid, serial=None, token=token.serial, requests=asked))
        await begin(context, Step.CERTIFICATES, self.steps)
        issued = await certificates(context, ordered.keys)
        issued = await self._write(issued)
        found = await prove(context, card, issued, pin, self.steps)
        await self.change()
        await context.guard(context.record("remove old", card.remove_old()))
        await card.close()
        await context.send(Receipt(guid=ordered.guid, proofs=found, puk_replaced=self._puk_replaced))
        return self.summary(issued, token.serial, *earlier_notes(ordered, issued))

    async def _write(self, issued: Sequence[IssuedCertificate]) -> list[IssuedCertificate]:
        """Write what has to be on the card, then as much as it takes of what may be; what is on it in the end."""
        optional = {key.slot for key in self.ordered.keys if key.optional}
        needed = [item for item in issued if item.slot not in optional]
        await write(self.context, self._card, needed, self.steps)
        others = [item for item in issued if item.slot in optional]
        return needed + await token_earlier_keys.put_on(self.context, self._card, others)


def _writable(token: Token) -> Token:
    if not token.writable:
        raise InlayError("pkcs11_write_protected")
    return token


def _label(text: str) -> str:
    """As much of a label as a token keeps: 32 bytes (CK_TOKEN_INFO, v3.1, section 3.2), and no half of a character."""
    return text.encode()[:32].decode(errors="ignore")


def _check_length(token: Token, pin: bytearray) -> None:
    """See that a card takes a new PIN, before anything is changed for it.

    Raises:
        InlayError: ``card_pin_form``.
    """
    shortest, longest = token.pin_length
    if len(pin) < shortest or 0 < longest < len(pin):
        raise InlayError("card_pin_form")
