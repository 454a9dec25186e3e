"""Every table of the portal: those of orders, of the CA and of mails stand in files of their own.

Times are whole seconds since 1970, ids are random. States are the words of ``portal.model.states``. Codes,
session tokens and completion secrets are stored as SHA-256 only; what is secret otherwise is sealed by the key port.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from portal.store.base import Base as Base
from portal.store.base import Hash, Id, Word
from portal.store.batch_tables import CardBatch as CardBatch
from portal.store.batch_tables import CardBatchPosition as CardBatchPosition
from portal.store.ca_tables import CaCertificate as CaCertificate
from portal.store.ca_tables import CaCrl as CaCrl
from portal.store.ca_tables import CaIntent as CaIntent
from portal.store.ca_tables import CaStatus as CaStatus
from portal.store.ca_tables import Revocation as Revocation
from portal.store.columns import audit_details, process_variables
from portal.store.mail_tables import ExpiryNotice as ExpiryNotice
from portal.store.mail_tables import Mail as Mail
from portal.store.order_tables import IncomingMessage as IncomingMessage
from portal.store.order_tables import Order as Order
from portal.store.order_tables import OutgoingMessage as OutgoingMessage


class User(Base):
    """A person with an account."""

    __tablename__ = "users"
    __table_args__ = (Index("ix_users_created", "created_at", "id"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(Word)
    roles: Mapped[list[str]]
    password_hash: Mapped[str] = mapped_column(String(400))
    created_at: Mapped[int]


class LoginSession(Base):
    """A browser's log-in session."""

    __tablename__ = "sessions"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    token_hash: Mapped[str] = mapped_column(Hash, unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    csrf_token: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[int]
    expires_at: Mapped[int]


class ScriptOptions(Base):
    """One saved version of a script's options."""

    __tablename__ = "script_options"
    script: Mapped[str] = mapped_column(Word, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    options: Mapped[dict[str, Any]]
    saved_by: Mapped[str] = mapped_column(String(254))
    saved_at: Mapped[int]


class Card(Base):
    """A card of any kind; ``kind`` names its state graph."""

    __tablename__ = "cards"
    __table_args__ = (
        Index("ix_cards_kind_created", "kind", "created_at", "id"),
        Index("ix_cards_kind_state_created", "kind", "state", "created_at", "id"),
        Index("ix_cards_serial", "serial"),
        Index("ix_cards_label", "label", "id"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(Word)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    label: Mapped[str] = mapped_column(String(200))
    serial: Mapped[str] = mapped_column(Word)
    guid: Mapped[str] = mapped_column(Word, unique=True)
    state: Mapped[str] = mapped_column(Word)
    storage: Mapped[str] = mapped_column(Word)
    attested: Mapped[bool]
    driver: Mapped[str] = mapped_column(Word, default="piv", server_default="piv")
    """how it is talked to: ``virtual``, ``piv`` or ``pkcs11``"""
    described_by: Mapped[str | None] = mapped_column(Word)
    """name of the configured card description that it is made by; None: one that is built in"""
    device_jkt: Mapped[str | None] = mapped_column(ForeignKey("devices.jkt"))
    sealed_puk: Mapped[bytes | None]
    generation: Mapped[int] = mapped_column(default=0, server_default="0")
    """the highest that its device told: how often the card's file was saved"""
    restored_at: Mapped[int | None]
    """when its device first told a lower one: an old copy of the file was put back"""
    valid_until: Mapped[int]
    created_at: Mapped[int]
    changed_at: Mapped[int]


class ManagedCard(Base):
    """A physical card that this portal encodes, from its first encoding on."""

    __tablename__ = "managed_cards"
    card_id: Mapped[str] = mapped_column(ForeignKey("cards.id"), primary_key=True)
    key_generation: Mapped[int]
    """of the management key that it has; 0 is the factory's, and each one of its own has a higher number"""
    key_algorithm: Mapped[str | None] = mapped_column(Word)
    """of that key; None with the factory's, which the card tells"""
    pending_generation: Mapped[int | None]
    """of a key that was sent and not confirmed: the card has the one or the other"""
    pending_algorithm: Mapped[str | None] = mapped_column(Word)
    """of each key that was sent, with a space between: it took one of them, or none"""
    pending_guid: Mapped[str | None] = mapped_column(Word)
    """GUID that an order which ended half done may have written"""
    pending_puk: Mapped[bytes | None]
    """a PUK of its own that was sent and not confirmed, sealed"""
    puk_unsure: Mapped[bool] = mapped_column(default=False, server_default=false())
    """an order that ended half done may have given it that one"""
    mutual: Mapped[bool] = mapped_column(default=False, server_default=false())
    """it can prove itself by the key that it has, and has to before it is told or given anything"""
    proved_at: Mapped[int | None]
    """when it did last"""
    encoded_for: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
    """whose keys are on it; None before its first encoding has ended"""
    prepared_at: Mapped[int | None]
    """when it was made ready for whoever gets it, with an identity and nobody's keys; None once it was encoded"""
    changed_at: Mapped[int]


class CardLetter(Base):
    """A letter with a card's PIN or PUK that waits to be printed; gone once the card isn't Issued any more."""

    __tablename__ = "card_letters"
    card_id: Mapped[str] = mapped_column(ForeignKey("cards.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(Word, primary_key=True)
    """``pin`` or ``puk``"""
    process_id: Mapped[str] = mapped_column(ForeignKey("processes.id"))
    """the process that produced the card: who started it may print the letter"""
    sealed: Mapped[bytes | None]
    """the PIN; None for a PUK, which stands with its card"""
    prints: Mapped[int]
    created_at: Mapped[int]


class SealedSecret(Base):
    """A secret of the portal's own that is none of its keys, sealed by the key port."""

    __tablename__ = "sealed_secrets"
    name: Mapped[str] = mapped_column(Word, primary_key=True)
    sealed: Mapped[bytes]
    created_at: Mapped[int]


class Certificate(Base):
    """A certificate, stored as soon as the CA has answered."""

    __tablename__ = "certificates"
    __table_args__ = (
        UniqueConstraint("issuer", "serial"),
        Index("ix_certificates_created", "created_at", "id"),
        Index("ix_certificates_state_created", "state", "created_at", "id"),
        Index("ix_certificates_ca_state_created", "ca_state", "created_at", "id"),
        Index("ix_certificates_expiry", "not_after", "id"),
        Index("ix_certificates_serial", "serial"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    request_id: Mapped[str] = mapped_column(Word, unique=True)
    order_jti: Mapped[str | None] = mapped_column(ForeignKey("orders.jti"), index=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    profile: Mapped[str] = mapped_column(Word)
    slot: Mapped[str] = mapped_column(String(2))
    algorithm: Mapped[str] = mapped_column(Word)
    key_source: Mapped[str] = mapped_column(Word)
    key_hash: Mapped[str] = mapped_column(Hash, index=True)
    archived_key_id: Mapped[str | None] = mapped_column(ForeignKey("archived_keys.id"))
    issuer: Mapped[str] = mapped_column(String(400))
    serial: Mapped[str] = mapped_column(Word)
    subject: Mapped[str] = mapped_column(String(400))
    not_before: Mapped[int]
    not_after: Mapped[int]
    der: Mapped[bytes]
    state: Mapped[str] = mapped_column(Word)
    ca_state: Mapped[str] = mapped_column(Word)
    revocation_reason: Mapped[str | None] = mapped_column(Word)
    created_at: Mapped[int]
    changed_at: Mapped[int]
    held_for: Mapped[str | None] = mapped_column(Word)
    """why it was issued on hold: ``proof`` (the proof releases it) or ``change_state`` (a step of its process does)"""


class ObjectRelation(Base):
    """A typed relation between two objects."""

    __tablename__ = "object_relations"
    __table_args__ = (
        UniqueConstraint("from_kind", "from_id", "relation", "to_kind", "to_id"),
        Index("ix_object_relations_to", "to_kind", "to_id"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    from_kind: Mapped[str] = mapped_column(Word)
    from_id: Mapped[str] = mapped_column(Id)
    relation: Mapped[str] = mapped_column(Word)
    to_kind: Mapped[str] = mapped_column(Word)
    to_id: Mapped[str] = mapped_column(Id)
    created_at: Mapped[int]


class Process(Base):
    """A process instance: its step and variables are all there is of it."""

    __tablename__ = "processes"
    __table_args__ = (
        Index("ix_processes_created", "created_at", "id"),
        Index("ix_processes_state_created", "state", "created_at", "id"),
        Index("ix_processes_name_created", "name", "created_at", "id"),
    )
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Word)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    """who started it"""
    subject_id: Mapped[str | None] = mapped_column(Id, index=True)
    """whom it is about, when that is another person"""
    target_kind: Mapped[str | None] = mapped_column(Word)
    target_id: Mapped[str | None] = mapped_column(Id, index=True)
    """the object it works on, when it does on one that is there already"""
    approved_by: Mapped[str | None] = mapped_column(Id)
    """id of the second person, once that one has agreed"""
    approved_at: Mapped[int | None]
    state: Mapped[str] = mapped_column(Word)
    step: Mapped[str] = mapped_column(Word)
    variables: Mapped[dict[str, Any]] = mapped_column(process_variables())
    """plain values and core object descriptors (``portal.model.variables``)"""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    version: Mapped[int] = mapped_column()
    """goes up with every change: compare-and-swap"""
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012
    submitted_version: Mapped[int | None]
    """the version of the page that was sent last: the same page sent twice does its work once"""
    created_at: Mapped[int]
    changed_at: Mapped[int]


class Device(Base):
    """A device: its key, and what it says of itself."""

    __tablename__ = "devices"
    __table_args__ = (Index("ix_devices_seen", "last_seen_at", "jkt"),)
    jkt: Mapped[str] = mapped_column(Id, primary_key=True)
    key: Mapped[dict[str, Any]]
    name: Mapped[str] = mapped_column(String(200))
    platform: Mapped[str] = mapped_column(String(200))
    agent_version: Mapped[str] = mapped_column(String(200))
    first_seen_at: Mapped[int]
    last_seen_at: Mapped[int]


class KnownDevice(Base):
    """A device that an account has used to the end of an order."""

    __tablename__ = "known_devices"
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    jkt: Mapped[str] = mapped_column(ForeignKey("devices.jkt"), primary_key=True)
    known_since: Mapped[int]


class ArchivedKey(Base):
    """An encryption key, sealed under the archive key, which isn't in the database."""

    __tablename__ = "archived_keys"
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    request_id: Mapped[str] = mapped_column(Word, unique=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    algorithm: Mapped[str] = mapped_column(Word)
    public_key: Mapped[bytes]
    sealed: Mapped[bytes]
    created_at: Mapped[int]


class RecoveryPermit(Base):
    """Two persons' agreement that a person's archived keys go on to another card: used by one order, or not at all."""

    __tablename__ = "recovery_permits"
    process_id: Mapped[str] = mapped_column(ForeignKey("processes.id"), primary_key=True)
    """the process by which it was asked for and agreed to"""
    owner_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    asked_by: Mapped[str] = mapped_column(Id)
    approved_by: Mapped[str] = mapped_column(Id)
    created_at: Mapped[int]
    expires_at: Mapped[int]
    used_by: Mapped[str | None] = mapped_column(ForeignKey("orders.jti"))
    used_at: Mapped[int | None]


class AuditEntry(Base):
    """One row of the append-only log; ``hash`` covers the row and the hash before it."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_actor", "actor", "number"),
        Index("ix_audit_action", "action", "number"),
        Index("ix_audit_at", "at", "number"),
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[int]
    actor: Mapped[str] = mapped_column(String(254))
    action: Mapped[str] = mapped_column(Word)
    kind: Mapped[str] = mapped_column(Word)
    object_id: Mapped[str] = mapped_column(Id, index=True)
    details: Mapped[dict[str, Any]] = mapped_column(audit_details())
    previous: Mapped[str] = mapped_column(Hash)
    hash: Mapped[str] = mapped_column(Hash)


class AuditHead(Base):
    """The log's last row: locked by each writer, so that there is one at a time."""

    __tablename__ = "audit_head"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int]
    hash: Mapped[str] = mapped_column(Hash)


class SignedKeySet(Base):
    """The key sets that were published; the highest version is the one that counts."""

    __tablename__ = "key_sets"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[dict[str, Any]]
    """what a new version is made for: order keys, name and path"""
    token: Mapped[str] = mapped_column(Text)
    issued_at: Mapped[int]
    expires_at: Mapped[int]
