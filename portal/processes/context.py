"""What the work on orders and processes needs, put together once at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portal.ca.attestation import Roots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portal.ca.archive import Archive
    from portal.ca.authority import CertificateAuthority
    from portal.clock import Clock
    from portal.keys import KeyPort
    from portal.processes.card_descriptions import CardDescription
    from portal.store.database import Database


@dataclass(frozen=True, slots=True)
class FactorySecrets:
    """What physical cards come with from their maker; the defaults are what most makers use, and no secret.

    Attributes:
        management_key: of the longest algorithm; a shorter one has its first bytes.
        puk: 8 bytes.
    """

    management_key: bytes = bytes.fromhex("0102030405060708" * 3)
    puk: bytes = b"12345678"


@dataclass(frozen=True, slots=True)
class Context:
    """Dependencies.

    Attributes:
        portal: the portal's id: host[:port] of its origin.
        origin: the portal's origin.
        ca_seconds: how long an answer of the CA is awaited.
        factory: what physical cards come with.
        roots: makers of cards whose attestations are believed.
        mails: this portal sends mail.
        descriptions: card descriptions that are configured, by name.
    """

    database: Database
    keys: KeyPort
    ca: CertificateAuthority
    archive: Archive
    clock: Clock
    portal: str
    origin: str
    ca_seconds: float = 30
    factory: FactorySecrets = FactorySecrets()
    roots: Roots = field(default_factory=Roots)
    mails: bool = False
    descriptions: Mapping[str, CardDescription] = field(default_factory=dict)
