"""The archive of encryption keys: what is in the database opens with the portal's key alone, and in its own row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_private_key
from sqlalchemy import func, select

from portal.ca.archive import Archive
from portal.ca.x509 import spki
from portal.keys import FileKeys
from portal.store.tables import ArchivedKey, AuditEntry
from protocol import jose
from protocol.errors import InlayError
from protocol.messages import Algorithm
from tests.support.portal_kit import CHEAP, PASSPHRASE

if TYPE_CHECKING:
    from pathlib import Path

    from portal.keys import KeyPort
    from portal.views import Session
    from tests.support.portal_kit import Kit


@pytest.fixture
async def ada(kit: Kit) -> Session:
    """Whose keys they are."""
    return await kit.person()


def archive_of(kit: Kit, keys: KeyPort | None = None) -> Archive:
    """The portal's archive, or one with other keys at the same database."""
    return Archive(kit.database, keys or kit.portal.keys, kit.clock)


async def make(kit: Kit, ada: Session, request: str = "order.9D") -> str:
    """A key; its id."""
    key_id, _ = await archive_of(kit).make(request, ada.user.id, Algorithm.P_256)
    return key_id


async def deliver(kit: Kit, key_id: str, keys: KeyPort | None = None) -> bytes:
    """The key, as a device gets it."""
    recipient = jose.SigningKey.generate()
    async with kit.database.write() as tx:
        token = await archive_of(kit, keys).deliver(tx, key_id, recipient.public, "device:x")
    return bytes(recipient.decrypt(token))


async def row_of(kit: Kit, key_id: str) -> ArchivedKey:
    """What is stored."""
    async with kit.database.read() as tx:
        return await tx.get_one(ArchivedKey, key_id)


@pytest.mark.parametrize("what", ["sealed", "owner", "public half", "algorithm", "one bit"])
async def test_a_row_that_somebody_has_written_to_does_not_open(kit: Kit, ada: Session, what: str) -> None:
    """Another row's key, another owner, another public half; and nothing is noted as delivered."""
    eve = await kit.person("eve@example.org")
    key, other = await make(kit, ada), await row_of(kit, await make(kit, ada, "order2.9D"))
    async with kit.database.write() as tx:
        row = await tx.get_one(ArchivedKey, key)
        match what:
            case "sealed":
                row.sealed = other.sealed
            case "owner":
                row.owner_id = eve.user.id
            case "public half":
                row.public_key = other.public_key
            case "algorithm":
                row.algorithm = Algorithm.RSA_2048.value
            case _:
                row.sealed = row.sealed[:-1] + bytes([row.sealed[-1] ^ 1])
    with pytest.raises(InlayError) as caught:
        await deliver(kit, key)
    assert caught.value.code == "internal"
    delivered = select(func.count()).where(AuditEntry.action == "archived_key.delivered")
    async with kit.database.read() as tx:
        assert (await tx.execute(delivered)).scalar_one() == 0


async def test_another_portals_keys_do_not_open_it(kit: Kit, ada: Session, tmp_path: Path) -> None:
    """Whoever has the database alone has no key of the archive."""
    key = await make(kit, ada)
    others = FileKeys.create(tmp_path / "other" / "portal.keys", PASSPHRASE, CHEAP)
    with pytest.raises(InlayError):
        await deliver(kit, key, others)
    assert await deliver(kit, key)


async def test_sealed_with_aes_256_gcm_under_the_key_of_the_key_file(
    kit: Kit, ada: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nonce before it, another for each key; opened here by hand with the key that was used."""
    used: list[bytes] = []

    def noted(key: bytes) -> AESGCM:
        used.append(bytes(key))
        return AESGCM(key)

    monkeypatch.setattr("portal.keys.AESGCM", noted)
    FileKeys(tmp_path / "keys" / "portal.keys", PASSPHRASE)  # the sealing key is the last one that it opens
    assert len(used[-1]) == 32
    rows = [await row_of(kit, await make(kit, ada, f"order{number}.9D")) for number in range(2)]
    assert len({row.sealed[:12] for row in rows}) == 2
    for row in rows:
        about = (row.id.encode(), row.owner_id.encode(), row.algorithm.encode(), row.public_key)
        opened = AESGCM(used[-1]).decrypt(
            row.sealed[:12], row.sealed[12:], b"\0".join((b"inlay-archive", *about))
        )
        assert opened == await deliver(kit, row.id)
        assert opened not in row.sealed


async def test_a_request_is_one_key_whose_delivery_is_noted(kit: Kit, ada: Session) -> None:
    key = await make(kit, ada)
    assert await make(kit, ada) == key
    assert await make(kit, ada, "another.9D") != key
    private = load_der_private_key(await deliver(kit, key), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert spki(private.public_key()) == (await row_of(kit, key)).public_key
    noted = select(AuditEntry).where(AuditEntry.object_id == key).order_by(AuditEntry.number)
    async with kit.database.read() as tx:
        told = [(entry.actor, entry.action) for entry in await tx.scalars(noted)]
    assert told == [("portal", "archived_key.made"), ("device:x", "archived_key.delivered")]
