"""Keys that ask for the PIN or for a touch otherwise than the standard has it: whether a card can have such keys.

Found out before anything of the card is changed: a key takes its policies when it is made, and the one that was there
is gone by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.pcsc import piv_policies
from agent.pcsc.piv_names import KeyAlgorithm, PinPolicy, TouchPolicy
from agent.pcsc.piv_policies import USUAL, Policies, Trial
from agent.piv_card import ALGORITHMS
from protocol import key_policies
from protocol.errors import InlayError
from protocol.messages import Algorithm, KeyPinPolicy, KeySource, KeyTouchPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.order_ports import OrderContext
    from agent.returning_card import ReturningCard
    from protocol.messages import EncodeCard, KeyOrder

_PIN: Final = {
    KeyPinPolicy.NEVER: PinPolicy.NEVER,
    KeyPinPolicy.ONCE: PinPolicy.ONCE,
    KeyPinPolicy.ALWAYS: PinPolicy.ALWAYS,
}
_TOUCH: Final = {
    KeyTouchPolicy.NEVER: TouchPolicy.NEVER,
    KeyTouchPolicy.ALWAYS: TouchPolicy.ALWAYS,
    KeyTouchPolicy.CACHED: TouchPolicy.CACHED,
}


def beyond_standard(keys: Sequence[KeyOrder]) -> Mapping[int, Policies]:
    """Slot to what a key gets there that not any card does."""
    found = {int(key.slot, 16): _ordered(key).beyond(int(key.slot, 16)) for key in keys}
    return {slot: wanted for slot, wanted in found.items() if wanted != USUAL}


def named(error: InlayError, ordered: EncodeCard) -> InlayError:
    """An error of a key's policies, with what was ordered."""
    key = next((key for key in ordered.keys if key.slot == error.fields.get("slot")), None)
    if error.code != "card_policy_missing" or key is None:
        return error
    return _refusal("card_policy_missing", key)


async def check(context: OrderContext, card: ReturningCard, ordered: EncodeCard) -> None:
    """See that a card can have what is ordered of its keys, and that those that stay have it.

    After management authentication. Keys that the card may go on without aren't looked at: it refuses them later.

    Raises:
        InlayError: ``card_policy_missing``, ``card_policy_other``; ``pcsc_…``; why the order ended.
    """
    for key in ordered.keys:
        if key.source is KeySource.KEEP:
            await _check_kept(context, card, key)
    new = [key for key in ordered.keys if key.source is not KeySource.KEEP and not key.optional]
    beyond, tried = beyond_standard(new), set[Policies]()
    for key in new:
        wanted = beyond.get(int(key.slot, 16))
        if wanted is None:
            continue
        brought = key.source is KeySource.IMPORT
        if brought and not await context.guard(card.run(piv_policies.tells)):
            raise _refusal("card_policy_missing", key)
        if wanted not in tried:
            trial = Trial(wanted, _quickest(card, key))
            if not await context.guard(card.run(trial.succeeds)):
                raise _refusal("card_policy_missing", key)
            tried.add(wanted)


async def _check_kept(context: OrderContext, card: ReturningCard, key: KeyOrder) -> None:
    wanted = _ordered(key)
    if wanted == USUAL:
        return
    slot = int(key.slot, 16)
    told = await context.guard(card.run(piv_policies.told, slot))
    fits = wanted.beyond(slot) == USUAL if told is None else wanted.are_met_by(told)
    if not fits:
        raise _refusal("card_policy_other", key)


def _ordered(key: KeyOrder) -> Policies:
    pin = PinPolicy.DEFAULT if key.pin_policy is None else _PIN[key.pin_policy]
    return Policies(pin, TouchPolicy.DEFAULT if key.touch_policy is None else _TOUCH[key.touch_policy])


def _quickest(card: ReturningCard, key: KeyOrder) -> KeyAlgorithm:
    """An RSA key takes a card up to a minute."""
    return ALGORITHMS[Algorithm.P_256 if card.knows(Algorithm.P_256) else key.algorithm]


def _refusal(code: str, key: KeyOrder) -> InlayError:
    return InlayError(code, slot=key.slot, policy=key_policies.text(key.pin_policy, key.touch_policy))
