"""Management keys of physical cards: each card has its own, made of one secret of the portal, which never leaves it.

A card's key is derived by NIST SP 800-108r1, section 4.1: counter mode, HMAC-SHA-256, a 32-bit counter before and a
32-bit length behind label, zero byte and context. Label: ``inlay management key``; context: the card's id, the
algorithm's name and the key's generation, each behind its length. The secret is 32 random bytes that the key port has
sealed.

A card may be torn out while it takes a new key: until its order has ended well it has the old one or the new one, and
the portal answers with the one and then the other (``ManagementQuestion.refused``).
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from sqlalchemy.exc import IntegrityError

from portal.model.states import OrderState
from portal.processes import card_pieces, card_proof, order_rows, outgoing
from portal.store import audit
from portal.store.tables import Card, ManagedCard, SealedSecret
from protocol import codec, jose
from protocol.errors import DecodeError, InlayError
from protocol.messages import (
    ChangePuk,
    EncodeCard,
    ManagementAlgorithm,
    ManagementProof,
    PublicJwk,
    UnblockPin,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context
    from portal.store.tables import Order
    from protocol.messages import ManagementQuestion

LABEL: Final = b"inlay management key"
MOST_QUESTIONS: Final = 30
"""Of one order: each key is asked for three times, and again whenever the card was away."""
_NAME: Final = "management_keys"
_SECRET_BYTES: Final = 32
_KEY_BYTES: Final = {
    ManagementAlgorithm.TRIPLE_DES: 24,
    ManagementAlgorithm.AES_128: 16,
    ManagementAlgorithm.AES_192: 24,
    ManagementAlgorithm.AES_256: 32,
}


class _Candidate(NamedTuple):
    """A key that a card may have; generation 0 is the factory's, and of whatever algorithm the card says."""

    generation: int
    algorithm: str | None


def derive(secret: bytes, card_id: str, algorithm: ManagementAlgorithm, generation: int) -> bytes:
    """A card's key of one generation.

    Args:
        secret: the portal's, 32 bytes.
        card_id: the card's id.
        algorithm: the key is made for.
        generation: from 1.

    Returns:
        As many bytes as the algorithm's keys have; of 3DES with odd parity.
    """
    parts = (card_id.encode(), algorithm.value.encode(), generation.to_bytes(8, "big"))
    context = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
    derivation = KBKDFHMAC(
        algorithm=hashes.SHA256(),
        mode=Mode.CounterMode,
        length=_KEY_BYTES[algorithm],
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=LABEL,
        context=context,
        fixed=None,
    )
    key = derivation.derive(secret)
    return key if algorithm is not ManagementAlgorithm.TRIPLE_DES else _odd(key)


async def new_keys(context: Context, tx: AsyncSession, order: Order) -> list[str]:
    """The management keys of which an order gives its card one, for the device alone; none where it gives none.

    Noted before they leave: from now on the card may have any of them.

    Returns:
        Compact JWE to the order's ephemeral key, one of each algorithm, in the order's own sequence.
    """
    ordered = order_rows.parameters(order)
    if not isinstance(ordered, EncodeCard) or ordered.management is None:
        return []
    managed = await managed_card(context, tx, ordered.card)
    wanted = ordered.management.replace
    if not wanted:
        return []
    if await card_pieces.takes_another(tx, order):
        # never again a key that the card may have which this one takes the place of
        managed.pending_generation = max(managed.key_generation, managed.pending_generation or 0) + 1
        managed.pending_algorithm = None
    elif managed.pending_generation is None:
        managed.pending_generation = managed.key_generation + 1
    managed.pending_algorithm = _joined(managed.pending_algorithm, wanted)
    managed.changed_at = context.clock()
    secret = await _secret(context, tx)
    try:
        keys = [derive(bytes(secret), ordered.card, each, managed.pending_generation) for each in wanted]
    finally:
        secret[:] = bytes(len(secret))
    recipient = codec.convert(order.encryption_key, PublicJwk, malformed="internal")
    return [jose.encrypt(key, recipient) for key in keys]


async def managed_card(context: Context, tx: AsyncSession, card_id: str) -> ManagedCard:
    """What is known of a card's management key, locked; a card that was never encoded has the factory's."""
    found = await tx.get(ManagedCard, card_id, with_for_update=True)
    if found is None:
        found = ManagedCard(card_id=card_id, key_generation=0, changed_at=context.clock())
        tx.add(found)
        await tx.flush()
    return found


async def answer(context: Context, jti: str, question: ManagementQuestion) -> None:
    """Answer a card's question, which its device has passed on: each number once.

    Raises:
        InlayError: the order is to be undone with it: ``card_management_wrong``: the card has refused every key that
            it may have; ``card_not_proved``: it has to prove itself, and asks for what isn't proof;
            ``message_unexpected``: its order has nothing to do with a management key; ``rate_limited``.
        DecodeError: ``params_invalid``.
    """
    async with context.database.write() as tx:
        order = await order_rows.load(tx, jti)
        if order.state != OrderState.RUNNING:
            return
        ordered = order_rows.parameters(order)
        if not isinstance(ordered, ChangePuk | EncodeCard | UnblockPin) or ordered.management is None:
            raise InlayError("message_unexpected")
        if question.number > MOST_QUESTIONS:
            raise InlayError("rate_limited")
        if question.number <= order.questions:
            return  # answered before; a device that asks under the same number again would ask without end
        order.questions = question.number
        await order_rows.check_person(tx, order)
        managed = await managed_card(context, tx, ordered.card)
        candidate = _candidate(managed, question, other=await card_pieces.takes_another(tx, order))
        own = 0 < candidate.generation == managed.key_generation  # one that was sent its device may know
        if card_proof.is_missing(order) and (question.witness is None or not own):
            raise InlayError("card_not_proved")
        key = await _key(context, tx, ordered.card, candidate, question.algorithm)
        proof = _proof(key, question)
        card_proof.challenged(order, proof, candidate.generation)
        await outgoing.send(context, tx, order, proof)
        await _note(context, tx, order, ordered.card, candidate.generation)


def settle(managed: ManagedCard, algorithm: ManagementAlgorithm, now: int) -> None:
    """The card has the key of this algorithm that was sent."""
    if managed.pending_generation is not None:
        managed.key_generation, managed.key_algorithm = managed.pending_generation, algorithm.value
        managed.pending_generation = managed.pending_algorithm = None
        managed.changed_at = now


def _candidate(managed: ManagedCard, question: ManagementQuestion, *, other: bool) -> _Candidate:
    """The key that is tried after so many were refused: the one in use, the one that was sent, the factory's.

    ``other``: it is another card than the one that had a key of the portal's.
    """
    known = [_Candidate(0, None) if other else _Candidate(managed.key_generation, managed.key_algorithm)]
    if managed.pending_generation is not None:
        sent = (managed.pending_algorithm or "").split()
        known += [_Candidate(managed.pending_generation, each) for each in sent]
    if managed.key_generation > 0 and not other:
        known.append(_Candidate(0, None))  # the card may have been reset by its maker's tool
    fitting = [item for item in known if item.algorithm in (None, question.algorithm.value)]
    if question.refused >= len(fitting):
        raise InlayError("card_management_wrong")
    return fitting[question.refused]


def _joined(pending: str | None, wanted: list[ManagementAlgorithm]) -> str:
    """Algorithms of which a key was sent: those of an order before, which the card may have, too, and these."""
    return " ".join(dict.fromkeys([*(pending or "").split(), *(each.value for each in wanted)]))


async def _key(
    context: Context, tx: AsyncSession, card_id: str, candidate: _Candidate, algorithm: ManagementAlgorithm
) -> bytes:
    size = _KEY_BYTES[algorithm]
    if candidate.generation == 0:
        factory = context.factory.management_key
        return (factory * 2)[:size]
    secret = await _secret(context, tx)
    try:
        return derive(bytes(secret), card_id, algorithm, candidate.generation)
    finally:
        secret[:] = bytes(len(secret))


async def _secret(context: Context, tx: AsyncSession) -> bytearray:
    """The portal's secret, made when it is first needed; the caller wipes it."""
    row = await tx.get(SealedSecret, _NAME)
    if row is None:
        fresh = context.keys.seal(secrets.token_bytes(_SECRET_BYTES), _NAME.encode())
        try:
            async with tx.begin_nested():
                tx.add(SealedSecret(name=_NAME, sealed=fresh, created_at=context.clock()))
        except IntegrityError:
            pass  # another order was the first one to need it
        row = await tx.get_one(SealedSecret, _NAME)
    return context.keys.unseal(row.sealed, _NAME.encode())


def _proof(key: bytes, question: ManagementQuestion) -> ManagementProof:
    """What the key says to a question (SP 800-73pt2-5, section 3.2.4 and appendix A.1)."""
    given = [block for block in (question.challenge, question.witness) if block is not None]
    triple = question.algorithm is ManagementAlgorithm.TRIPLE_DES
    size = 8 if triple else 16
    if len(given) != 1 or len(given[0]) != size:
        raise DecodeError("params_invalid", "$.challenge")
    cipher = Cipher(TripleDES(key) if triple else AES(key), modes.ECB())  # noqa: S305 - one block, by the standard
    encryptor = cipher.encryptor()
    if question.challenge is not None:
        return ManagementProof(number=question.number, response=encryptor.update(question.challenge))
    challenge = secrets.token_bytes(size)
    return ManagementProof(
        number=question.number,
        response=cipher.decryptor().update(given[0]),
        challenge=challenge,
        expected_sha256=hashlib.sha256(encryptor.update(challenge)).digest(),
    )


async def _note(context: Context, tx: AsyncSession, order: Order, card_id: str, generation: int) -> None:
    card = await tx.get_one(Card, card_id)
    await audit.record(
        tx,
        at=context.clock(),
        actor=f"device:{order.device_jkt}",
        action="card.management_proved",
        kind=card.kind,
        object_id=card.id,
        order=order.jti,
        generation=generation,
    )


def _odd(key: bytes) -> bytes:
    """Each byte with an odd number of bits, as DES keys have them (FIPS 46-3); cards may refuse others."""
    return bytes(byte & 0xFE | (bin(byte >> 1).count("1") + 1) % 2 for byte in key)
