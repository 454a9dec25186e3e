"""Claims: a code and a device key in, the signed order out.

A code is used up by the first device that claims it; the same device gets the same order again, made out to its new
nonce. Which binding an order carries is decided here (design principle 3).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import or_, select

from portal.model.states import OrderState, ProcessState, UserState
from portal.processes import order_rows, restored_cards
from portal.processes.codes import LINK_SECONDS, TYPED_SECONDS, digest
from portal.rate_limits import RateLimit, limit_key
from portal.store import audit
from portal.store.tables import Card, Device, KnownDevice, Order, Process, User
from protocol import jose, link
from protocol.errors import InlayError
from protocol.messages import (
    Account,
    Binding,
    CardStep,
    Claim,
    ClaimResult,
    Confirmation,
    CreateVirtualCard,
    EncodeCard,
    ReadCard,
    Transport,
    plain,
)
from protocol.messages import (
    Order as OrderMessage,
)
from protocol.orders import Stage

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.processes.context import Context

BEGIN_SECONDS: Final = 300
"""How long after the claim an order may be begun."""
ALWAYS_BOUND: Final = frozenset(
    {"authenticate", "sign", "unblock_pin", "change_puk", "verify_pin", "block_card", "activate_card"}
)
"""Operations that a link or typed code never starts without the number, known device or not."""
_FAILURES: Final = (5, 300)
_LINK_FAILURES: Final = (1000, 300)
"""Nobody guesses 128 bits: this only bounds the work. It is so high because a whole office may share one address, and
somebody in it who sends wrong codes must not keep the others from their cards."""


class Claimed(NamedTuple):
    """A claim that was granted.

    Attributes:
        jti: the order's id.
        device: thumbprint of the device key.
        result: what the device gets.
    """

    jti: str
    device: str
    result: ClaimResult


class Claims:
    """Grants claims."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._typed_failures = RateLimit(*_FAILURES, context.clock)
        self._link_failures = RateLimit(*_LINK_FAILURES, context.clock)

    async def claim(self, token: str, portal_nonce: str, address: str) -> Claimed:
        """Grant a claim, or refuse it.

        Args:
            token: JWS of ``Claim``.
            portal_nonce: the nonce this connection was given.
            address: where the connection comes from, for the limits.

        Raises:
            InlayError: ``message_signature_invalid``, ``params_invalid``, ``order_wrong_audience``,
                ``order_wrong_nonce``, ``order_wrong_origin``, ``code_unknown``, ``code_expired``, ``code_used``,
                ``user_not_active``, ``order_undone``, ``rate_limited``.
        """
        claim = self._verified(token, portal_nonce)
        failures = self._typed_failures if claim.transport is Transport.TYPED else self._link_failures
        key = limit_key(address)
        failures.take(key)
        try:
            async with self._context.database.write() as tx:
                granted = await self._grant(tx, claim, jose.thumbprint(claim.device_key))
        except InlayError as error:
            if not error.code.startswith("code_"):
                failures.give_back(key)
            if error.code == "code_used":
                await self._note_theft(claim)
            raise
        failures.give_back(key)
        return granted

    def _verified(self, token: str, portal_nonce: str) -> Claim:
        try:
            unverified = jose.unverified_payload(token, jose.CLAIM, Claim)
            claim = jose.verify(token, jose.CLAIM, [unverified.device_key], Claim)
        except jose.TokenError as error:
            raise error.as_error(
                signature="message_signature_invalid",
                algorithm="message_signature_invalid",
                payload="params_invalid",
            ) from None
        except ValueError:  # a device key that isn't a point of the curve
            raise InlayError("message_signature_invalid") from None
        if claim.aud != self._context.portal:
            raise InlayError("order_wrong_audience")
        if not secrets.compare_digest(claim.portal_nonce, portal_nonce):
            raise InlayError("order_wrong_nonce")
        by_loopback = claim.transport is Transport.LOOPBACK
        if by_loopback != (claim.origin is not None) or claim.origin not in (None, self._context.origin):
            raise InlayError("order_wrong_origin")
        if (claim.transport is Transport.TYPED) != (len(claim.code) == link.TYPED_CODE_LENGTH):
            raise InlayError("code_unknown")
        return claim

    async def _grant(self, tx: AsyncSession, claim: Claim, device: str) -> Claimed:
        now = self._context.clock()
        hashed = digest(claim.code)
        query = select(Order).where(or_(Order.link_code_hash == hashed, Order.typed_code_hash == hashed))
        order = (await tx.execute(query.with_for_update())).scalar_one_or_none()
        if order is None:
            raise InlayError("code_unknown")
        await restored_cards.note(tx, device, claim.cards, now)
        if order.state == OrderState.WAITING:
            await self._consume(tx, order, claim, device, now)
        else:
            _check_first_device(order, device)
            if order.state not in (OrderState.RUNNING, OrderState.FINISHING):
                raise InlayError("order_undone" if order.error else "code_used")
        order.nonce, order.begin_before = claim.nonce, now + BEGIN_SECONDS
        order_rows.touch(tx, order, now)
        begun = order.received > 0
        return Claimed(order.jti, device, ClaimResult(order=self._signed(order, now), resumed=begun))

    async def _consume(self, tx: AsyncSession, order: Order, claim: Claim, device: str, now: int) -> None:
        typed = claim.transport is Transport.TYPED
        if now >= (order.typed_code_expires_at if typed else order.link_code_expires_at):
            raise InlayError("code_expired", seconds=TYPED_SECONDS if typed else LINK_SECONDS)
        user = await tx.get_one(User, order.user_id)
        if user.state != UserState.ACTIVE:
            raise InlayError("user_not_active", state=user.state)
        process = await tx.get_one(Process, order.process_id)
        if process.state != ProcessState.RUNNING:
            raise InlayError("code_unknown")
        await self._note_device(tx, claim, device, now)
        order_rows.move(order, OrderState.RUNNING, now)
        order.device_jkt, order.transport = device, claim.transport.value
        order.binding = (await self._binding(tx, order, claim.transport, device)).value
        order.stage = Stage.BEGUN.value
        if order.binding == Binding.COMPLETION:
            secret = jose.new_nonce()
            order.completion_hash = digest(secret)
            order.sealed_completion = self._context.keys.seal(secret.encode(), _associated(order.jti))
        await audit.record(
            tx,
            at=now,
            actor=f"device:{device}",
            action="order.claimed",
            kind="order",
            object_id=order.jti,
            transport=claim.transport.value,
            binding=order.binding,
        )

    async def _binding(self, tx: AsyncSession, order: Order, transport: Transport, device: str) -> Binding:
        """See ADR 2: whoever took a loopback port could return a completion secret, but shows no number."""
        if await tx.get(KnownDevice, (order.user_id, device)) is None:
            return Binding.NUMBER
        if await _is_elsewhere(tx, order, device):
            return Binding.NUMBER
        if transport is Transport.LOOPBACK:
            return Binding.COMPLETION
        return Binding.NUMBER if _always_bound(order) else Binding.NONE

    async def _note_device(self, tx: AsyncSession, claim: Claim, device: str, now: int) -> None:
        row = await tx.get(Device, device)
        if row is None:
            row = Device(jkt=device, key=plain(claim.device_key), first_seen_at=now)
            tx.add(row)
        row.name, row.platform = claim.device.name, claim.device.platform
        row.agent_version, row.last_seen_at = claim.device.version, now
        await tx.flush()

    async def _note_theft(self, claim: Claim) -> None:
        """A code came from a second device: worth a look, and so in the log."""
        hashed = digest(claim.code)
        async with self._context.database.write() as tx:
            query = select(Order.jti).where(
                or_(Order.link_code_hash == hashed, Order.typed_code_hash == hashed)
            )
            await audit.record(
                tx,
                at=self._context.clock(),
                actor=f"device:{jose.thumbprint(claim.device_key)}",
                action="order.claim_refused",
                kind="order",
                object_id=(await tx.execute(query)).scalar_one_or_none() or "unknown",
            )

    def _signed(self, order: Order, now: int) -> str:
        completion = None
        if order.sealed_completion is not None:
            completion = self._context.keys.unseal(order.sealed_completion, _associated(order.jti)).decode()
        message = OrderMessage(
            iss=self._context.portal,
            aud="inlay",
            jti=order.jti,
            iat=now,
            exp=order.begin_before or now,
            cnf=Confirmation(jkt=order.device_jkt or ""),
            nonce=order.nonce or "",
            origin=self._context.origin,
            account=Account(**order.account),
            binding=Binding(order.binding or ""),
            resume_within=order.resume_within,
            parameters=order_rows.parameters(order),
            completion=completion,
        )
        return self._context.keys.order_keys()[0].sign(jose.ORDER, message)


def _always_bound(order: Order) -> bool:
    """Whether an order gives whoever carries it out power over a card whose PIN that person needn't know."""
    if order.operation in ALWAYS_BOUND:
        return True
    parameters = order_rows.parameters(order)
    return isinstance(parameters, EncodeCard) and CardStep.SET_PIN in parameters.steps


async def _is_elsewhere(tx: AsyncSession, order: Order, device: str) -> bool:
    """Whether an order is about a card that another device has made.

    A card stays with its device, but a device that lost its key has a new one: the person says that it is theirs.
    """
    parameters = order_rows.parameters(order)
    card = (
        None if isinstance(parameters, CreateVirtualCard | ReadCard) else await tx.get(Card, parameters.card)
    )
    return card is not None and card.device_jkt not in (None, device)


def _check_first_device(order: Order, device: str) -> None:
    """A code works once: afterwards it is its first device's alone.

    Raises:
        InlayError: ``code_used``.
    """
    if order.device_jkt != device:
        raise InlayError("code_used")


def _associated(jti: str) -> bytes:
    return b"inlay-completion\0" + jti.encode()
