"""*Encode card* of a physical PIV card: an order that gives the card in a reader keys and certificates.

There is no copy to work on: what is changed is changed. Before the first such thing the portal has it in writing that
the card is being changed (``changing``); an order that ends before leaves the card as it was, and one that ends after
it leaves a card that is half done, which a fresh order finishes. A card that is pulled out is waited for, and the work
goes on where it was. Nobody is waited for while the card is held.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from agent.errors import CardAsItWas
from agent.handlers import card_objects, card_policies, retired_keys, trial_import
from agent.handlers.blocked_card import reset_if_blocked, see_that_puk_helps
from agent.handlers.card_attesting import Attesting, check_attested
from agent.handlers.card_writing import (
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
    check_prepared,
    earlier_notes,
)
from agent.handlers.new_puk import replace_puk
from agent.handlers.order_steps import secret
from agent.handlers.physical_card_pin import portals_puk, right_pin
from agent.handlers.picked_card import PickedCard, UnnamedCard
from agent.management_proof import ALGORITHMS, PortalKey
from agent.pcsc import piv_authenticate, piv_objects
from agent.pcsc.piv_names import CCC
from agent.returning_card import PhysicalCard, ReturningCard
from protocol.errors import DecodeError, InlayError
from protocol.half_done import AS_IT_WAS
from protocol.messages import CardStep, KeySource, Receipt, Requests, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.order_ports import OrderContext
    from agent.pcsc.connection import CardConnection
    from agent.pcsc.piv_names import ManagementAlgorithm
    from agent.pcsc.piv_objects import Chuid
    from agent.ports import CardSummary, Consented
    from protocol.messages import EncodeCard, IssuedCertificate, ManagementKey, Proceed
    from protocol.messages import ManagementAlgorithm as Algorithm

_NOT_WRITTEN: Final = frozenset({"card_object_too_large", "card_slot_missing"})
"""By these causes a certificate isn't written, and the one that was there is there."""
_CANT_TAKE_KEY: Final = frozenset({"card_feature_missing", "card_algorithm_missing"})


class EncodePhysicalCardHandler(EncodeInReader):
    """The operation *encode card* by the driver ``piv``."""

    def _check(self, ordered: EncodeCard) -> None:
        check_keys(ordered.keys, frozenset(KeySource), optional=True, policies=True)
        check_attested(ordered)
        card_objects.check(ordered)
        _management(ordered)
        others = [step.value for step in ordered.steps if step is not CardStep.SET_PIN]
        if others:
            raise InlayError("encoding_unsupported", what=f"the step {others[0]}")
        check_pin_entry(ordered, frozenset({"new", "given"}))
        if ordered.new_puk and CardStep.SET_PIN not in ordered.steps:
            raise InlayError("encoding_unsupported", what="a new PUK without a new PIN")
        if not ordered.keys:
            check_prepared(ordered)
        printed = None if ordered.identity is None else ordered.identity.printed
        if ordered.reset and not (ordered.new_puk and printed is not None):
            raise InlayError(
                "encoding_unsupported", what="a reset without a new PUK and the number on the card"
            )

    async def _encode(
        self, context: OrderContext, ordered: EncodeCard, answer: Consented, agreed: Proceed
    ) -> CardSummary:
        key = PortalKey(context, _management(ordered))
        which = PhysicalCard(ordered.driver, ordered.guid, ordered.label, ordered.identity)
        printed = None if ordered.identity is None else ordered.identity.printed
        picked: PickedCard | UnnamedCard = PickedCard(context, key, printed)
        if which.unnamed:
            picked = UnnamedCard(context, key, ordered.guid)
        card = ReturningCard(context, self._readers, which, AT_CARD, key, picked.confirm)
        card.policies = card_policies.beyond_standard(ordered.keys)
        try:
            return await _Encoding(context, ordered, card, agreed, key).carry_out(answer)
        finally:
            await card.close()


class _Encoding(Encoding):
    """One order's work on a PIV card."""

    def __init__(
        self,
        context: OrderContext,
        ordered: EncodeCard,
        card: ReturningCard,
        agreed: Proceed,
        key: PortalKey,
    ) -> None:
        super().__init__(context, ordered, card, agreed)
        self._card, self._wanted, self._key = card, ordered, key
        self._only_certifies = False

    async def carry_out(self, answer: Consented) -> CardSummary:
        """Up to the receipt; what the window shows in the end.

        Raises:
            HalfDone: it ended after the point of no return.
            CardAsItWas: it did, and the card has refused the first thing.
            InlayError: it ended before.
        """
        try:
            await begin(self.context, Step.CARD, self.steps)
            await self._reset_if_blocked()
            if answer.pin is not None:
                await self._prove_key()
                return await self._encode(answer.pin)
            pin = await self._pin()
            try:
                await self._prove_key()
                return await self._encode(pin)
            finally:
                wipe(pin)
        except InlayError as raised:
            raise self._end(self._told(raised)) from None

    def _end(self, error: InlayError) -> InlayError:
        """What the order ends by, with what it leaves of the card."""
        if not self.half_done or error.code in AS_IT_WAS:
            return error
        untouched = self._only_certifies and not self._card.has_written
        return CardAsItWas(error) if untouched and error.code in _NOT_WRITTEN else HalfDone(error)

    async def _prove_key(self) -> None:
        """The portal's key to the card and, where it has to, the card itself to the portal."""
        await self.context.guard(self._card.prove_key())
        self.agreed = self._key.completed(self.agreed)

    def _told(self, error: InlayError) -> InlayError:
        """What it comes to: a blocked PUK is the end of a card whose PIN is blocked and that can't be reset."""
        hopeless = error.code == "card_puk_blocked" and self._card.pin_blocked and not self._card.may_reset
        return InlayError("card_no_reset") if hopeless else card_policies.named(error, self._wanted)

    async def _reset_if_blocked(self) -> None:
        allowed, proves = self.ordered.reset, self._key.proves
        if await reset_if_blocked(
            self.context, self._card, allowed=allowed, proves=proves, change=self.change
        ):
            # whatever an earlier order has given it, now it has its maker's PUK
            self.agreed = msgspec.structs.replace(self._key.completed(self.agreed), puk_unsure=False)

    async def _see_that_puk_helps(self) -> None:
        """A card that nothing will bring back is left as it is, as far as that can be known."""
        hopeless = self._card.pin_blocked and not self._card.may_reset
        if hopeless and self._sets_pin and not self.agreed.puk_unsure:
            puk = self.puk()
            try:
                await see_that_puk_helps(self.context, self._card, puk)
            finally:
                wipe(puk)

    async def _pin(self) -> bytearray:
        """The PIN that the portal gives, or the card's own, typed and right; the caller wipes it."""
        if self.ordered.pin.kind == "given":
            return secret(self.context, self.agreed.pin, "pin")
        return await right_pin(
            self.context,
            self._card,
            lambda: show(self.context, Step.CARD, self.steps),
            self.ordered.pin.where,
        )

    async def _encode(self, pin: bytearray) -> CardSummary:
        context, card = self.context, self._card
        ordered = self._settle()
        _check_card(card, ordered)
        await card_policies.check(context, card, ordered)
        await self._see_that_puk_helps()
        attesting = Attesting(context, card, ordered)
        await attesting.prepare()
        if _changes_first(ordered):
            await self.change()
        await begin(context, Step.KEYS, self.steps)
        # a card that has another PUK stays as it is; a blank one first gets what tells it from other blank ones
        if card.told_apart:
            puk_replaced = await self._give_puk_and_pin(pin)
            await self._give_identity()
        else:
            await self._give_identity()
            puk_replaced = await self._give_puk_and_pin(pin)
        await retired_keys.clear(context, card, ordered)
        await self._write_objects(pin)
        issued = await self._certified(attesting, pin) if ordered.keys else []
        replaced = await self._replace_key()
        found = await prove(context, card, issued, pin, self.steps)
        await card.close()  # reset, before anything else: what was proved to it is worth nothing any more
        receipt = Receipt(
            guid=ordered.guid, proofs=found, management_replaced=replaced, puk_replaced=puk_replaced
        )
        await context.send(receipt)
        notes = [*_made_instead(self._wanted, self.ordered), *earlier_notes(self._wanted, issued)]
        return self.summary(issued, card.serial, *notes)

    async def _certified(self, attesting: Attesting, pin: bytearray) -> list[IssuedCertificate]:
        """The certificates of the card's keys, asked for and written."""
        context, card = self.context, self._card
        ordered = await self._settle_by_trial()
        attesting.settle(ordered)
        asked = await requests(context, card, ordered.keys, pin, self.steps)
        declined = [key.slot for key in self._wanted.keys if key not in ordered.keys and key.optional]
        asking = Requests(guid=ordered.guid, serial=card.serial, requests=asked, declined=declined)
        await context.send(await attesting.attested(asking))
        await begin(context, Step.CERTIFICATES, self.steps)
        issued = await certificates(context, ordered.keys, card.awaiting)
        self._only_certifies = not self.half_done and all(item.key is None for item in issued)
        await self.change()
        return await self._write(issued)

    async def _write(self, issued: Sequence[IssuedCertificate]) -> list[IssuedCertificate]:
        """Write what has to be on the card, then as much as it takes of what may be; what is on it in the end.

        Where keys stay the largest certificate is the first: a card that has no place for it is as it was.
        """
        optional = {key.slot for key in self.ordered.keys if key.optional}
        needed = [item for item in issued if item.slot not in optional]
        if self._only_certifies:
            await write(self.context, self._card, sorted(needed, key=_size, reverse=True), self.steps)
        else:
            await write(self.context, self._card, needed, self.steps)
        others = [item for item in issued if item.slot in optional]
        return needed + await retired_keys.put_on(self.context, self._card, others)

    def _settle(self) -> EncodeCard:
        """What the order leaves to the card is what this card can, to the end: sources of keys, and optional keys."""
        able = KeySource.IMPORT if self._card.imports else KeySource.GENERATE
        keys = [
            msgspec.structs.replace(key, source=able) if key.source is KeySource.IMPORT_IF_POSSIBLE else key
            for key in self._wanted.keys
            if self._card.imports or not key.optional
        ]
        self.ordered = msgspec.structs.replace(self.ordered, keys=keys)
        return self.ordered

    async def _settle_by_trial(self) -> EncodeCard:
        """As `_settle`, of a card that tells nothing of its keys: whether it takes one shows when it gets one."""
        left = {key.slot for key in self._wanted.keys if key.source is KeySource.IMPORT_IF_POSSIBLE}
        for key in self.ordered.keys if not self._card.tells_keys else ():
            if key.slot not in left or key.source is not KeySource.IMPORT:
                continue
            await self.change()
            if not await trial_import.takes(self.context, self._card, key):
                self._card.imports = False
                return self._settle()
        return self.ordered

    async def _wait_delivered(self) -> None:
        await self._card.awaiting(self.context.delivered())

    async def _give_identity(self) -> None:
        ordered, context = self.ordered, self.context
        if ordered.identity is not None:
            giving = self._card.run(_give_identity, self._card.chuid, ordered.guid, ordered.valid_until)
            await context.guard(context.record("identity", giving))
            self._card.has_its_guid()

    async def _give_puk_and_pin(self, pin: bytearray) -> bool:
        """A PUK of its own, and a new PIN by it, as far as the order wants them; whether the PUK was replaced."""
        replaced = False
        try:
            if self.ordered.new_puk:
                replaced = await replace_puk(self.context, self._card, self.agreed)
            if self._sets_pin:
                setting = self._set_pin(pin, replaced=replaced)
                await self.context.guard(self.context.record("set pin", setting))
        except InlayError as error:
            raise portals_puk(error) from None
        return replaced

    async def _set_pin(self, pin: bytearray, *, replaced: bool) -> None:
        """By the PUK that the card has now."""
        puk = secret(self.context, self.agreed.new_puk, "new_puk") if replaced else self.puk()
        try:
            await self._card.set_pin(puk, pin)
        finally:
            wipe(puk)

    async def _write_objects(self, pin: bytearray) -> None:
        """Some of them are read by the PIN alone, and are read back, and before they are written over."""
        if any(item.content is not None for item in self.ordered.objects) and self._sets_pin:
            await self.context.guard(self._card.verify(pin))  # the one that the card was just given
        await card_objects.write(self.context, self._card, self.ordered.objects)

    @property
    def _sets_pin(self) -> bool:
        return CardStep.SET_PIN in self.ordered.steps

    async def _replace_key(self) -> Algorithm | None:
        """Give the card its own management key, of the first algorithm that it takes; None where it takes none."""
        wanted, tokens = _management(self.ordered).replace, self.agreed.management_keys
        if len(tokens) != len(wanted):
            raise DecodeError("params_invalid", "$.management_keys")
        for algorithm, token in zip(wanted, tokens, strict=True):
            key = self.context.decrypt(token)
            try:
                replacing = self._card.run(_set_key, ALGORITHMS[algorithm], key)
                if await self.context.guard(self.context.record("management key", replacing)):
                    return algorithm
            finally:
                wipe(key)
        return None


def _give_identity(
    card: CardConnection, read: Callable[[CardConnection], Chuid | None], guid: str, valid_until: int
) -> None:
    """Write a CHUID with the order's GUID where the card has another one, and a CCC where it has none."""
    chuid = read(card)
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
        InlayError: ``card_import_missing``, ``card_algorithm_missing``.
    """
    for key in ordered.keys:
        if key.source is KeySource.IMPORT and not card.imports:
            raise InlayError("card_import_missing")
        if key.source is not KeySource.KEEP and not card.knows(key.algorithm):
            raise InlayError("card_algorithm_missing", algorithm=key.algorithm.value)


def _size(issued: IssuedCertificate) -> int:
    return len(issued.certificate)


def _made_instead(wanted: EncodeCard, settled: EncodeCard) -> list[str]:
    """What the window says of keys that the card has made because it takes none."""
    open_to_card = {key.slot for key in wanted.keys if key.source is KeySource.IMPORT_IF_POSSIBLE}
    return [
        f"The card takes no key from elsewhere, so it made the key for {key.purpose.value} itself. "
        "Nobody has a copy: what it encrypts is lost with the card."
        for key in settled.keys
        if key.slot in open_to_card and key.source is KeySource.GENERATE
    ]


def _changes_first(ordered: EncodeCard) -> bool:
    """Whether something that nothing undoes comes before the certificates."""
    made = any(key.source is KeySource.GENERATE for key in ordered.keys)
    given = ordered.identity is not None or ordered.clear_retired or bool(ordered.clear or ordered.objects)
    return made or given or CardStep.SET_PIN in ordered.steps


def _management(ordered: EncodeCard) -> ManagementKey:
    if ordered.management is None:
        raise DecodeError("order_malformed", "$.parameters.management")
    return ordered.management
