"""Objects for staff's searches, put straight into the store: a few by hand, or very many by one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from portal.store.tables import Card, Certificate, Device, Process, Revocation, User

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

DAY = 86_400
MOMENT = 1_800_000_000
"""2027-01-15, 08:00 UTC."""


def user(key: str, **changes: object) -> User:
    """A user."""
    values: dict[str, object] = {
        "id": key,
        "email": f"{key}@example.org",
        "name": key.title(),
        "state": "active",
        "roles": ["self-service"],
        "password_hash": "none",
        "created_at": MOMENT,
    }
    return User(**values | changes)


def device(key: str, **changes: object) -> Device:
    """A device."""
    values: dict[str, object] = {
        "jkt": key,
        "key": {},
        "name": f"machine {key}",
        "platform": "Debian 12",
        "agent_version": "0.1.0",
        "first_seen_at": MOMENT,
        "last_seen_at": MOMENT,
    }
    return Device(**values | changes)


def card(key: str, owner: str, **changes: object) -> Card:
    """A virtual smart card."""
    values: dict[str, object] = {
        "id": key,
        "kind": "virtual_smart_card",
        "owner_id": owner,
        "label": f"Card {key}",
        "serial": f"7{len(key)}{abs(hash(key)) % 10**6:06}",
        "guid": key.ljust(32, "0"),
        "state": "Active",
        "storage": "keystore",
        "attested": False,
        "valid_until": MOMENT + 730 * DAY,
        "created_at": MOMENT,
        "changed_at": MOMENT,
    }
    return Card(**values | changes)


def certificate(key: str, owner: str, **changes: object) -> Certificate:
    """A certificate that is valid everywhere."""
    values: dict[str, object] = {
        "id": key,
        "request_id": f"request-{key}",
        "owner_id": owner,
        "profile": "authentication",
        "slot": "9A",
        "algorithm": "P-256",
        "key_source": "generate",
        "key_hash": key,
        "issuer": "CN=Example CA",
        "serial": key.encode().hex(),
        "subject": f"CN={owner}",
        "not_before": MOMENT,
        "not_after": MOMENT + 730 * DAY,
        "der": b"",
        "state": "Valid",
        "ca_state": "good",
        "created_at": MOMENT,
        "changed_at": MOMENT,
    }
    return Certificate(**values | changes)


def process(key: str, owner: str, **changes: object) -> Process:
    """A process that runs."""
    values: dict[str, object] = {
        "id": key,
        "name": "VirtualSmartCardSelfServiceProcGet",
        "user_id": owner,
        "state": "running",
        "step": "information",
        "variables": {},
        "created_at": MOMENT,
        "changed_at": MOMENT,
    }
    return Process(**values | changes)


def revocation(certificate_id: str, **changes: object) -> Revocation:
    """A revocation that waits."""
    values: dict[str, object] = {
        "certificate_id": certificate_id,
        "reason": "unspecified",
        "tries": 2,
        "next_try_at": MOMENT + 60,
        "created_at": MOMENT,
    }
    return Revocation(**values | changes)


async def many_certificates(tx: AsyncSession, count: int) -> None:
    """Very many certificates, one for each of as many users; a day has a hundred, one in a thousand is Issued."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count:d})"  # noqa: S608
    email = "'person' || i || '@example.org'"
    await tx.execute(
        text(
            "INSERT INTO users (id, email, name, state, roles, password_hash, created_at) "  # noqa: S608
            f"{numbers} SELECT 'many-u' || i, {email}, 'Person ' || i, 'active', '[\"self-service\"]', 'x', i FROM n"
        )
    )
    serial = (
        "substr('0123456789abcdef', i % 16 + 1, 1) || substr('0123456789abcdef', i / 16 % 16 + 1, 1) || i"
    )
    await tx.execute(
        text(
            "INSERT INTO certificates (id, request_id, owner_id, profile, slot, algorithm, key_source, key_hash,"  # noqa: S608
            " issuer, serial, subject, not_before, not_after, der, state, ca_state, created_at, changed_at) "
            f"{numbers} SELECT 'many-c' || i, 'many-r' || i, 'many-u' || i, 'authentication', '9A', 'P-256',"
            f" 'generate', 'k' || i, 'CN=Example CA', {serial}, 'CN=Person ' || i, 0,"
            f" {MOMENT:d} + i / 100 * 86400, :der, CASE WHEN i % 1000 = 0 THEN 'Issued' ELSE 'Valid' END,"
            f" CASE WHEN i % 5000 = 0 THEN 'held' ELSE 'good' END, {MOMENT:d} + i / 100 * 86400, 0 FROM n"
        ),
        {"der": bytes(900)},
    )
