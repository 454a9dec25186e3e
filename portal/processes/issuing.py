"""Certificates for a card's keys: intent stored, CA asked, certificate stored as Issued, and only then sent.

Every step can be repeated: the request id of a key is made of the order's id and the slot, and the CA and the archive
answer the same for the same id. A certificate that arrives after its order was undone is stored too, and revoked.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from portal.ca.authority import CaError, CaRefusedError, CaUnavailableError, IssueRequest, Reason, Subject
from portal.ca.x509 import facts, verify_csr, verify_public_key
from portal.model.states import CaState, OrderState
from portal.model.virtual_card_options import HOLD_UNTIL_PROOF
from portal.processes import (
    attestation,
    card_certificates,
    certificates,
    key_sources,
    order_rows,
    outgoing,
    proofs,
    recovery_permits,
    tasks,
)
from portal.processes.operations.registry import operation_of
from portal.store import audit
from portal.store.database import model_of
from portal.store.tables import ArchivedKey, CaIntent, Certificate, Order, Process, User
from protocol import codec
from protocol.errors import DecodeError, InlayError
from protocol.messages import (
    Algorithm,
    Certificates,
    CreateVirtualCard,
    EncodeCard,
    IssuedCertificate,
    KeyOrder,
    KeySource,
    PublicJwk,
    Purpose,
    Requests,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.encoding.plan import PlannedCertificate
    from portal.processes.context import Context
    from protocol.messages import CertificateRequest

Certifying = CreateVirtualCard | EncodeCard


class Issuing:
    """Issues the certificates of orders.

    Attributes:
        asking: request ids that wait for the CA's answer in this process; the reconciler leaves them alone.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.asking: set[str] = set()

    async def certify(self, jti: str, requests: Requests) -> None:
        """Answer a device's requests with certificates.

        Raises:
            InlayError: the order has to be undone with this error: ``request_invalid``, ``params_invalid``,
                ``key_of_another``, ``ca_refused``, ``user_not_active``, ``attestation_…``.
        """
        async with self._context.database.read() as tx:
            order = await order_rows.load(tx, jti)
            ordered = key_sources.settled_order(_certifying(order), requests)
            holder = await order_rows.holder(tx, order)
            keys = _checked(requests, ordered)
            attested = await attestation.judge(self._context, tx, ordered, requests, keys)
        requested = key_sources.settled_plan(tasks.plan_of(order), requests).requested
        for item in requested:
            if item.source == "import":
                request_id = _request_id(jti, item.slot)
                algorithm = Algorithm(item.algorithm)
                archived = await self._context.archive.make(request_id, holder.id, algorithm)
                keys[item.slot] = archived[1]
        if not await self._begin(jti, requests, ordered, keys, attested):
            return
        for item in requested:
            await self._issue(_request_id(jti, item.slot), item.template)
        await self._send(jti)

    async def _begin(
        self,
        jti: str,
        requests: Requests,
        ordered: Certifying,
        keys: dict[str, bytes],
        attested: Mapping[str, str],
    ) -> bool:
        """Store the card and the intents; False when the order isn't running any more."""
        async with self._context.database.write() as tx:
            order = await order_rows.load(tx, jti)
            if order.state != OrderState.RUNNING:
                return False
            await order_rows.check_person(tx, order)
            begun = select(CaIntent.request_id).where(CaIntent.order_jti == jti)
            if (await tx.execute(begun)).first() is not None:
                return True
            await tasks.check(tx, order)
            await key_sources.settle(tx, order, requests)
            await operation_of(order).register(self._context, tx, order, requests)
            await self._intend(tx, order, keys, ordered.valid_until, attested)
            order.shown_step = Step.CERTIFICATES.value
            order_rows.changed(tx, order)
            return True

    async def _intend(
        self,
        tx: AsyncSession,
        order: Order,
        keys: dict[str, bytes],
        valid_until: int,
        attested: Mapping[str, str],
    ) -> None:
        """Store what the CA will be asked for."""
        now, requested = self._context.clock(), tasks.plan_of(order).requested
        kept = {item.slot: keys[item.slot] for item in requested if item.source == "keep"}
        await card_certificates.check_kept(tx, order.card_id, kept)
        user, user_id = await order_rows.holder(tx, order), await order_rows.holder_id(tx, order)
        made = {item.slot: keys[item.slot] for item in requested if item.source == "generate"}
        await card_certificates.check_made(tx, user.id, made)
        on_hold = _held_for(await tx.get_one(Process, order.process_id))
        for item in requested:
            request = _stored_request(user, user_id, item, keys[item.slot], valid_until)
            if not item.hold:  # what a step of the process releases stays on hold when it is proved
                request["held_for"] = on_hold
            request["attested_by"] = attested.get(item.slot)
            tx.add(
                CaIntent(
                    request_id=_request_id(order.jti, item.slot),
                    order_jti=order.jti,
                    request=request,
                    state="open",
                    created_at=now,
                    changed_at=now,
                )
            )

    async def _issue(self, request_id: str, purpose: str) -> None:
        async with self._context.database.read() as tx:
            intent = await tx.get_one(CaIntent, request_id)
        if intent.state == "answered":
            return
        self.asking.add(request_id)
        try:
            async with asyncio.timeout(self._context.ca_seconds):
                der = await self._context.ca.issue(issue_request(intent))
        except CaRefusedError as refusal:
            await self._refused(request_id, refusal.reason)
            raise InlayError("ca_refused", purpose=purpose) from None
        except (CaUnavailableError, TimeoutError):
            # what became of it isn't known: the intent stays open for the reconciler
            raise InlayError("ca_refused", purpose=purpose) from None
        else:
            await self.store(request_id, der)
        finally:
            self.asking.discard(request_id)

    async def release_proved(self, jti: str) -> None:
        """Have the CA release the certificates of an order that has won, so that they are good before it is finished.

        A CA that is away isn't waited for twice: what is still on hold then is left to the queue.
        """
        async with self._context.database.read() as tx:
            query = select(Certificate).join(Order, Order.jti == Certificate.order_jti)
            held = query.where(
                Order.jti == jti,
                Order.state == OrderState.FINISHING.value,
                Certificate.held_for == certificates.FOR_PROOF,
                Certificate.ca_state == CaState.HELD.value,
            )
            waiting = list(await tx.scalars(held.order_by(Certificate.slot)))
        for certificate in waiting:
            try:
                async with asyncio.timeout(self._context.ca_seconds):
                    await self._context.ca.release(certificate.serial)
            except (CaError, TimeoutError):
                return
            await self._released(certificate.id)

    async def _released(self, certificate_id: str) -> None:
        async with self._context.database.write() as tx:
            certificate = await tx.get_one(Certificate, certificate_id, with_for_update=True)
            if certificate.ca_state != CaState.HELD:
                return
            certificate.ca_state, certificate.changed_at = CaState.GOOD.value, self._context.clock()
            await audit.record(
                tx,
                at=certificate.changed_at,
                actor="portal",
                action="certificate.released",
                kind="certificate",
                object_id=certificate_id,
            )

    async def store(self, request_id: str, der: bytes) -> None:
        """Store a certificate of the CA as Issued; when its order isn't running any more, have it revoked."""
        async with self._context.database.write() as tx:
            intent = await tx.get_one(CaIntent, request_id, with_for_update=True)
            if intent.state == "answered":
                return
            # locks are taken in one order everywhere: the order, its objects, the audit log
            order = await order_rows.load(tx, intent.order_jti) if intent.order_jti else None
            now = self._context.clock()
            intent.state, intent.changed_at = "answered", now
            certificate = _certificate(intent, der, model_of(tx).certificates.issued, now)
            archived = await self._archived_id(tx, certificate)
            certificate.archived_key_id = archived
            tx.add(certificate)
            await tx.flush()
            await audit.record(
                tx,
                at=now,
                actor="portal",
                action="certificate.issued",
                kind="certificate",
                object_id=certificate.id,
                serial=certificate.serial,
            )
            late = order is None or order.state != OrderState.RUNNING
            if order is not None:
                await tasks.issued(tx, order, certificate, now, late=late)
            if late:
                await certificates.enqueue_revocation(
                    tx, certificate, Reason.CESSATION_OF_OPERATION, "portal", now
                )

    async def _archived_id(self, tx: AsyncSession, certificate: Certificate) -> str | None:
        query = select(ArchivedKey.id).where(ArchivedKey.request_id == certificate.request_id)
        return (await tx.execute(query)).scalar_one_or_none()

    async def _refused(self, request_id: str, reason: str) -> None:
        async with self._context.database.write() as tx:
            now = self._context.clock()
            intent = await tx.get_one(CaIntent, request_id, with_for_update=True)
            intent.state, intent.changed_at = "refused", now
            await audit.record(
                tx,
                at=now,
                actor="portal",
                action="certificate.refused",
                kind="ca_intent",
                object_id=request_id,
                reason=reason,
            )

    async def _send(self, jti: str) -> None:
        async with self._context.database.write() as tx:
            order = await order_rows.load(tx, jti)
            if order.state != OrderState.RUNNING:
                return
            await order_rows.check_person(tx, order)  # the CA may have taken its time
            recipient = codec.convert(order.encryption_key, PublicJwk, malformed="internal")
            await tasks.delivered(tx, order, self._context.clock())
            issued, kept = [], {}
            for slot, certificate, recovered in await tasks.written(tx, order):
                key = challenge = None
                if recovered:
                    key_id = certificate.archived_key_id or ""
                    key = await recovery_permits.deliver(self._context, tx, order, key_id, recipient)
                elif certificate.archived_key_id is not None:
                    key = await self._context.archive.deliver(
                        tx, certificate.archived_key_id, recipient, f"device:{order.device_jkt}"
                    )
                if certificate.profile == Purpose.ENCRYPTION:
                    challenge, secret = proofs.challenge(certificate.der)
                    sealed = self._context.keys.seal(secret, proofs.challenge_label(jti, slot))
                    kept[slot] = sealed.hex()
                issued.append(
                    IssuedCertificate(slot=slot, certificate=certificate.der, key=key, challenge=challenge)
                )
            order.challenges = kept
            order.shown_step = Step.WRITING.value
            await outgoing.send(self._context, tx, order, Certificates(certificates=issued))


def issue_request(intent: CaIntent) -> IssueRequest:
    """What the CA is asked for an intent."""
    stored = intent.request
    return IssueRequest(
        request_id=intent.request_id,
        profile=stored["profile"],
        public_key=bytes.fromhex(stored["public_key"]),
        subject=Subject(**stored["subject"]),
        not_after=stored["not_after"],
        hold=stored.get("held_for") is not None,
    )


def _held_for(process: Process) -> str | None:
    """Why the certificates of a process are issued on hold, if they are."""
    return certificates.FOR_PROOF if process.variables.get("options", {}).get(HOLD_UNTIL_PROOF) else None


def _certifying(order: Order) -> Certifying:
    """The parameters of an order that certifies.

    Raises:
        InlayError: ``internal``: it is another operation's.
    """
    ordered = order_rows.parameters(order)
    if not isinstance(ordered, CreateVirtualCard | EncodeCard):
        raise InlayError("internal")
    return ordered


def _request_id(jti: str, slot: str) -> str:
    return f"{jti}.{slot}"


def _checked(requests: Requests, ordered: Certifying) -> dict[str, bytes]:
    """Each key that is on the card, once, proved and of the kind ordered: slot to public key."""
    wanted = {key.slot: key for key in ordered.keys if key.source is not KeySource.IMPORT}
    given = {request.slot: request for request in requests.requests}
    if len(given) != len(requests.requests) or set(given) != set(wanted):
        raise DecodeError("params_invalid", "$.requests")
    keys = {slot: _public_key(given[slot], key) for slot, key in wanted.items()}
    for slot, key in keys.items():
        if list(keys.values()).count(key) > 1:  # a key has one purpose (NIST SP 800-57pt1r5, 5.2)
            raise InlayError("request_invalid", slot=slot)
    return keys


def _public_key(request: CertificateRequest, key: KeyOrder) -> bytes:
    if key.purpose is Purpose.ENCRYPTION and key.algorithm is Algorithm.P_256:
        if request.public_key is None or request.csr is not None:
            raise InlayError("request_invalid", slot=key.slot)
        return verify_public_key(request.public_key, key.algorithm, key.slot)
    if request.csr is None or request.public_key is not None:
        raise InlayError("request_invalid", slot=key.slot)
    return verify_csr(request.csr, key.algorithm, key.slot)


def _stored_request(
    user: User, user_id: str, planned: PlannedCertificate, public_key: bytes, valid_until: int
) -> dict[str, Any]:
    return {
        "profile": planned.template,
        "public_key": public_key.hex(),
        "subject": {"name": user.name, "email": user.email, "user_id": user_id},
        "not_after": valid_until,
        "slot": planned.slot,
        "algorithm": planned.algorithm,
        "key_source": planned.source,
        "owner_id": user.id,
        "held_for": "change_state" if planned.hold else None,
    }


def _certificate(intent: CaIntent, der: bytes, state: str, now: int) -> Certificate:
    stored, read = intent.request, facts(der)
    held_for: str | None = stored.get("held_for")  # an intent of an earlier version has none
    return Certificate(
        id=secrets.token_hex(16),
        request_id=intent.request_id,
        order_jti=intent.order_jti,
        owner_id=stored["owner_id"],
        profile=stored["profile"],
        slot=stored["slot"],
        algorithm=stored["algorithm"],
        key_source=stored["key_source"],
        key_hash=read.key_hash,
        issuer=read.issuer,
        serial=read.serial,
        subject=read.subject,
        not_before=read.not_before,
        not_after=read.not_after,
        der=der,
        state=state,
        ca_state=(CaState.GOOD if held_for is None else CaState.HELD).value,
        held_for=held_for,
        created_at=now,
        changed_at=now,
    )
