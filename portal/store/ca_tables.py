"""The tables of the CA: what it is asked for, and what the built-in one has issued."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, false
from sqlalchemy.orm import Mapped, mapped_column

from portal.store.base import Base, Hash, Word


class CaIntent(Base):
    """A certificate the portal is about to ask for, stored before the CA is called."""

    __tablename__ = "ca_intents"
    request_id: Mapped[str] = mapped_column(Word, primary_key=True)
    order_jti: Mapped[str | None] = mapped_column(ForeignKey("orders.jti"), index=True)
    request: Mapped[dict[str, Any]]
    """all that is needed to store the certificate when the answer was lost"""
    state: Mapped[str] = mapped_column(Word, index=True)
    """``open``, ``answered``, ``refused`` or ``given_up``"""
    created_at: Mapped[int]
    changed_at: Mapped[int]


class Revocation(Base):
    """A change of a certificate's status that the CA has to confirm."""

    __tablename__ = "revocation_queue"
    certificate_id: Mapped[str] = mapped_column(ForeignKey("certificates.id"), primary_key=True)
    change: Mapped[str] = mapped_column(Word, default="revoke", server_default="revoke")
    """``revoke``, ``hold`` or ``release``; the last one asked for counts, and nothing follows ``revoke``"""
    reason: Mapped[str] = mapped_column(Word)
    tries: Mapped[int]
    last_error: Mapped[str | None] = mapped_column(Word)
    """of the last try: ``unavailable``, ``timeout``, or the CA's reason to refuse"""
    next_try_at: Mapped[int] = mapped_column(index=True)
    created_at: Mapped[int]


class CaCertificate(Base):
    """The built-in CA's own list of what it has issued."""

    __tablename__ = "ca_certificates"
    serial: Mapped[str] = mapped_column(Word, primary_key=True)
    request_id: Mapped[str] = mapped_column(Word, unique=True)
    key_hash: Mapped[str] = mapped_column(Hash, index=True)
    der: Mapped[bytes]
    not_after: Mapped[int]
    issued_at: Mapped[int]
    revoked_at: Mapped[int | None]
    """when it was revoked or put on hold first"""
    reason: Mapped[str | None] = mapped_column(Word)
    """``certificateHold`` while it is on hold"""
    own: Mapped[bool] = mapped_column(default=False, server_default=false())
    """the CA's own certificate, or one of its OCSP responder: nobody's to ask for or to revoke"""


class CaStatus(Base):
    """One row: how often the status of a certificate has changed; locked by each change and by each new CRL."""

    __tablename__ = "ca_status"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    changes: Mapped[int]


class CaCrl(Base):
    """The built-in CA's CRLs; numbers only go up."""

    __tablename__ = "ca_crls"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    der: Mapped[bytes]
    this_update: Mapped[int]
    next_update: Mapped[int]
    changes: Mapped[int] = mapped_column(default=0, server_default="0")
    """the status changes it tells of"""
