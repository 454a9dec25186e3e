"""Earlier encryption keys on a PIV card in a reader: its retired keys, 82 to 95, and the object that counts them.

SP 800-73pt1-5, section 3.3.3 (key history) and table 4b. A card says how much it takes by refusing the rest: those
keys stay in the portal's archive, and the order goes on. The count goes up before the keys come and down after those
that didn't, so that whoever gives the card to somebody else finds every key that is to go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization

from agent.certificates import key_in
from agent.handlers.card_writing import import_key
from agent.pcsc import piv_keys, piv_objects, piv_use
from agent.pcsc.piv_names import CERTIFICATES, RETIRED, RSA_BITS, KeyAlgorithm
from agent.pcsc.piv_objects import KeyHistory
from protocol.errors import InlayError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.order_ports import OrderContext
    from agent.pcsc.connection import CardConnection
    from agent.returning_card import ReturningCard
    from protocol.messages import EncodeCard, IssuedCertificate

_CANT_DELETE: Final = frozenset({"card_slot_missing", "card_feature_missing"})
_NOT_TAKEN: Final = frozenset(
    {
        "card_slot_missing",
        "card_algorithm_missing",
        "card_full",
        "card_object_lost",
        "card_object_too_large",
        "card_refused",
        "card_feature_missing",
        "card_policy_missing",
    }
)


async def clear(context: OrderContext, card: ReturningCard, ordered: EncodeCard) -> None:
    """Remove the keys of whoever had the card before: with its new PIN they would be the next one's.

    A blank card that deletes no keys is left as it is: nobody has had it.
    """
    if ordered.clear_retired:
        await context.guard(context.record("clear retired", card.run(_clear)))
    coming = {key.slot for key in ordered.keys}
    forgetting = _forget_if_it_can if card.came_blank else _forget
    for slot in ordered.clear:
        if slot not in coming:
            await context.guard(context.record(f"clear {slot}", card.run(forgetting, int(slot, 16))))


async def put_on(
    context: OrderContext, card: ReturningCard, coming: Sequence[IssuedCertificate]
) -> list[IssuedCertificate]:
    """Put as many of these keys on the card as it takes, each with its certificate; those that it has taken.

    A place that another key is in isn't theirs: a key that is lost there is lost for good.
    """
    if not coming:
        return []
    ours = frozenset(_spki(item.certificate) for item in coming)
    coming = [item for item in coming if await context.guard(card.run(_free, int(item.slot, 16), ours))]
    if not coming:
        return []
    last = max(int(item.slot, 16) for item in coming)
    try:
        before = await context.guard(card.run(_count_to, last))
    except InlayError as error:
        if error.code not in _NOT_TAKEN:
            raise
        return []  # a card that can't count them takes none: who gives it to somebody else would not find them
    taken = [item for item in coming if await _taken(context, card, item)]
    highest = max((int(item.slot, 16) for item in taken), default=RETIRED[0] - 1)
    await context.guard(card.run(_write_count, before, highest))
    return taken


async def _taken(context: OrderContext, card: ReturningCard, item: IssuedCertificate) -> bool:
    try:
        importing = import_key(context, card, item.slot, item.key or "")
        await context.guard(context.record(f"import {item.slot}", importing))
        writing = card.write_certificate(item.slot, item.certificate)
        await context.guard(context.record(f"write {item.slot}", writing))
    except InlayError as error:
        if error.code not in _NOT_TAKEN:
            raise
    else:
        return True
    await context.guard(card.run(_forget, int(item.slot, 16)))
    return False


# --- in the card's thread


def _clear(card: CardConnection) -> None:
    count = _counted(card)
    for slot in RETIRED[:count]:
        _forget(card, slot)
    if count:
        piv_objects.write_key_history(card, KeyHistory(0, 0))


def _free(card: CardConnection, slot: int, ours: frozenset[bytes | None]) -> bool:
    """Whether a slot has no certificate, or one of a key that is among those that come: no other is lost for them."""
    try:
        there = piv_objects.read_certificate(card, slot)
    except InlayError as error:
        if error.code != "card_answer_malformed":
            raise
        return False
    return there is None or _spki(there) in ours


def _spki(der: bytes) -> bytes | None:
    """The key of a certificate; None where it has none that can be read."""
    public = key_in(der)
    if public is None:
        return None
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(*form)


def _counted(card: CardConnection) -> int:
    """How many retired keys the card has: all that it could have, where the object can't be read."""
    try:
        found = piv_objects.read_key_history(card)
    except InlayError as error:
        if error.code != "card_answer_malformed":
            raise
        return len(RETIRED)
    return 0 if found is None else min(found.on_card + found.off_card, len(RETIRED))


def _count_to(card: CardConnection, last: int) -> int:
    """Count all keys up to a slot before they come; how many there were."""
    before = _counted(card)
    _write_count(card, before, last)
    return before


def _write_count(card: CardConnection, before: int, last: int) -> None:
    count = max(before, last - RETIRED[0] + 1)
    piv_objects.write_key_history(card, KeyHistory(count, 0))


def _forget(card: CardConnection, slot: int) -> None:
    """Remove a key and its certificate; a card that deletes no keys gets another one in its place."""
    try:
        piv_keys.delete(card, slot)
    except InlayError as error:
        if error.code == "card_slot_missing":
            return
        if error.code == "card_feature_missing":
            _overwrite(card, slot)
        elif error.code != "card_key_missing":
            raise
    piv_objects.delete(card, CERTIFICATES[slot])


def _forget_if_it_can(card: CardConnection, slot: int) -> None:
    try:
        piv_keys.delete(card, slot)
    except InlayError as error:
        if error.code in _CANT_DELETE:
            return
        if error.code != "card_key_missing":
            raise
    piv_objects.delete(card, CERTIFICATES[slot])


def _overwrite(card: CardConnection, slot: int) -> None:
    for algorithm in (KeyAlgorithm.P_256, KeyAlgorithm.RSA_2048):
        try:
            piv_keys.generate(card, slot, algorithm)
        except InlayError as error:
            if error.code == "card_slot_missing":
                return
            if error.code != "card_algorithm_missing":
                raise
        else:
            return
    if not _empty(card, slot):
        raise InlayError("card_algorithm_missing", algorithm=KeyAlgorithm.P_256.label)


def _empty(card: CardConnection, slot: int) -> bool:
    """Whether a slot has no key, as its use shows: cards say 6A80, as of an algorithm, of a slot that they haven't."""
    for algorithm in KeyAlgorithm:
        size = (
            RSA_BITS[algorithm] // 8
            if algorithm in RSA_BITS
            else 48
            if algorithm is KeyAlgorithm.P_384
            else 32
        )
        use = piv_use.agree if algorithm is KeyAlgorithm.X25519 else piv_use.use
        try:
            use(card, slot, algorithm, (1).to_bytes(size, "big"))
        except InlayError as error:
            if error.code != "card_key_missing":
                return False
        else:
            return False
    return True
