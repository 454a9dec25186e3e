"""The tables of orders: an order from its first code to its end, and the messages that went both ways."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from portal.store.base import Base, Hash, Id, Word


class Order(Base):
    """An order: from the first code to its end."""

    __tablename__ = "orders"
    jti: Mapped[str] = mapped_column(Id, primary_key=True)
    process_id: Mapped[str] = mapped_column(ForeignKey("processes.id"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    session_id: Mapped[str] = mapped_column(Id)
    """the browser session that began it"""
    operation: Mapped[str] = mapped_column(Word)
    parameters: Mapped[dict[str, Any]]
    """the operation's parameters as signed"""
    task: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """the plan of the task that it carries out (``portal.encoding.plan``), made when the task began"""
    account: Mapped[dict[str, Any]]
    resume_within: Mapped[int]
    state: Mapped[str] = mapped_column(Word)
    version: Mapped[int] = mapped_column()
    """goes up with every change: compare-and-swap"""
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012
    link_code_hash: Mapped[str | None] = mapped_column(Hash, unique=True)
    link_code_expires_at: Mapped[int]
    typed_code_hash: Mapped[str | None] = mapped_column(Hash, unique=True)
    typed_code_expires_at: Mapped[int]
    device_jkt: Mapped[str | None] = mapped_column(ForeignKey("devices.jkt"))
    nonce: Mapped[str | None] = mapped_column(Word)
    transport: Mapped[str | None] = mapped_column(Word)
    binding: Mapped[str | None] = mapped_column(Word)
    begin_before: Mapped[int | None]
    """the order's ``exp``"""
    completion_hash: Mapped[str | None] = mapped_column(Hash)
    sealed_completion: Mapped[bytes | None]
    """kept until the order is bound, for a claim that is repeated"""
    number: Mapped[str | None] = mapped_column(String(3))
    tries_left: Mapped[int]
    bound_at: Mapped[int | None]
    shown_step: Mapped[str | None] = mapped_column(Word)
    """how far it has come, for the page: a step, and with the keys which of how many is made (``keys 2 3``)"""
    stage: Mapped[str] = mapped_column(Word)
    sent: Mapped[int]
    received: Mapped[int]
    encryption_key: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    storage: Mapped[str | None] = mapped_column(Word)
    card_id: Mapped[str | None] = mapped_column(ForeignKey("cards.id"))
    challenges: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """slot to what was sent as its challenge, and the sealed secret that answers it"""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    deadline_at: Mapped[int | None] = mapped_column(index=True)
    created_at: Mapped[int]
    changed_at: Mapped[int]
    changing_at: Mapped[int | None]
    """when the device said that it begins to change a physical card: undone after that, the card is half done"""
    questions: Mapped[int] = mapped_column(default=0, server_default="0")
    """number of the last question of its card that was answered with the management key"""
    card_challenge: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """what its card was challenged to prove itself by: number, generation of the key, digest of the answer"""
    proved: Mapped[int | None]
    """highest generation of the management keys that its card has proved; 0, its maker's, tells no card apart"""
    ended: Mapped[int | None]
    """which of its card's orders it was to end, counted from 1: whole seconds don't tell what a card has said last"""


class OutgoingMessage(Base):
    """A message of the portal, stored before it is sent."""

    __tablename__ = "order_outbox"
    jti: Mapped[str] = mapped_column(ForeignKey("orders.jti"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int]


class IncomingMessage(Base):
    """A message of a device, stored before it is acknowledged."""

    __tablename__ = "order_inbox"
    jti: Mapped[str] = mapped_column(ForeignKey("orders.jti"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int]
    handled_at: Mapped[int | None]
