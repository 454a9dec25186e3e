"""The archive of encryption keys: made here, sealed under a key that isn't in the database, sent only as JWE."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select

from portal.ca.x509 import spki
from portal.store import audit
from portal.store.tables import ArchivedKey
from protocol import jose
from protocol.messages import Algorithm

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from portal.clock import Clock
    from portal.keys import KeyPort
    from portal.store.database import Database
    from protocol.messages import PublicJwk


class Archive:
    """Keeps encryption keys so that a later card can have them."""

    def __init__(self, database: Database, keys: KeyPort, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    async def make(self, request_id: str, owner_id: str, algorithm: Algorithm) -> tuple[str, bytes]:
        """Make a key; asked again with the same request id it is the same key.

        Returns:
            The key's id in the archive, and its SubjectPublicKeyInfo (DER).
        """
        async with self._database.read() as tx:
            row = await _by_request(tx, request_id)
        if row is None:
            row = await self._made(request_id, owner_id, algorithm)
        return row.id, row.public_key

    async def deliver(self, tx: AsyncSession, key_id: str, recipient: PublicJwk, actor: str) -> str:
        """Encrypt a key to an order's ephemeral key, and note it in the audit log.

        Returns:
            Compact JWE of the PKCS#8 (DER).
        """
        row = await tx.get_one(ArchivedKey, key_id)
        plain = self._keys.unseal(
            row.sealed, _associated(row.id, row.owner_id, row.algorithm, row.public_key)
        )
        try:
            token = jose.encrypt(plain, recipient)
        finally:
            plain[:] = bytes(len(plain))
        await audit.record(
            tx,
            at=self._clock(),
            actor=actor,
            action="archived_key.delivered",
            kind="archived_key",
            object_id=row.id,
            recipient=jose.thumbprint(recipient),
        )
        return token

    async def _made(self, request_id: str, owner_id: str, algorithm: Algorithm) -> ArchivedKey:
        key_id = secrets.token_hex(16)
        pkcs8, public = await asyncio.to_thread(_generate, algorithm)
        sealed = self._keys.seal(pkcs8, _associated(key_id, owner_id, algorithm, public))
        async with self._database.write() as tx:
            known = await _by_request(tx, request_id)
            if known is not None:
                return known
            row = ArchivedKey(
                id=key_id,
                request_id=request_id,
                owner_id=owner_id,
                algorithm=algorithm.value,
                public_key=public,
                sealed=sealed,
                created_at=self._clock(),
            )
            tx.add(row)
            await audit.record(
                tx,
                at=self._clock(),
                actor="portal",
                action="archived_key.made",
                kind="archived_key",
                object_id=key_id,
                owner=owner_id,
            )
        return row


async def _by_request(tx: AsyncSession, request_id: str) -> ArchivedKey | None:
    query = select(ArchivedKey).where(ArchivedKey.request_id == request_id)
    return (await tx.execute(query)).scalar_one_or_none()


def _associated(key_id: str, owner_id: str, algorithm: str, public_key: bytes) -> bytes:
    """Binds the sealed key to its row: another row's key, owner or public half doesn't open."""
    return b"\0".join((b"inlay-archive", key_id.encode(), owner_id.encode(), algorithm.encode(), public_key))


def _generate(algorithm: Algorithm) -> tuple[bytes, bytes]:
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    match algorithm:
        case Algorithm.RSA_2048:
            key = rsa.generate_private_key(65537, 2048)
        case Algorithm.P_256:
            key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), spki(key.public_key())
