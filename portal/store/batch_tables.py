"""Tables of temporary cards that are made in batches. See ``portal.store.tables``."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from portal.store.base import Base, Id


class CardBatch(Base):
    """An order of several temporary cards."""

    __tablename__ = "card_batches"
    __table_args__ = (Index("ix_card_batches_created", "created_at", "id"),)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    label: Mapped[str] = mapped_column(String(200))
    ordered_by: Mapped[str] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[int]
    closed_by: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
    closed_at: Mapped[int | None]
    """nothing of it is produced any more"""


class CardBatchPosition(Base):
    """One card of a batch: a card object of its own from the beginning, and always that one."""

    __tablename__ = "card_batch_positions"
    batch_id: Mapped[str] = mapped_column(ForeignKey("card_batches.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """from 1"""
    card_id: Mapped[str] = mapped_column(ForeignKey("cards.id"), unique=True)
    taken_by: Mapped[str | None] = mapped_column(ForeignKey("users.id"))
    """who began to produce it last"""
    taken_at: Mapped[int | None]
    """when: for a while nobody else is given it"""
