"""Whether a card takes a key that was made elsewhere: found out by a key that nobody needs, where nothing else tells.

Cards answer that they know IMPORT KEY, and some refuse every key all the same, or those of one place or kind. An order
that leaves a key to the card has to know before it asks for the certificate: afterwards there is no other way. The
place gets another key in this order anyway.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from agent.handlers.card_writing import wipe
from protocol.errors import InlayError
from protocol.messages import Algorithm

if TYPE_CHECKING:
    from agent.order_ports import KeyedCard, OrderContext
    from protocol.messages import KeyOrder

_REFUSED: Final = frozenset(
    {"card_feature_missing", "card_algorithm_missing", "card_policy_missing", "card_refused"}
)


async def takes(context: OrderContext, card: KeyedCard, key: KeyOrder) -> bool:
    """Import a key into the place of an ordered one; whether the card has taken it.

    Raises:
        InlayError: ``card_slot_missing``, ``card_management_needed``, ``pcsc_…``; why the order ended.
    """
    pkcs8 = await asyncio.to_thread(_new_key, key.algorithm)
    try:
        await context.guard(context.record(f"try {key.slot}", card.import_key(key.slot, pkcs8)))
    except InlayError as error:
        if error.code not in _REFUSED:
            raise
        return False
    finally:
        wipe(pkcs8)
    return True


def _new_key(algorithm: Algorithm) -> bytearray:
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = (
        rsa.generate_private_key(65537, 2048)
        if algorithm is Algorithm.RSA_2048
        else ec.generate_private_key(ec.SECP256R1())
    )
    form = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
    return bytearray(private.private_bytes(*form, serialization.NoEncryption()))
