"""Temporary cards that are made in batches, and cards that are made ready for whoever gets them.

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add their tables and the column; no card was made ready in advance until now."""
    op.create_table(
        "card_batches",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("ordered_by", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_by", sa.String(64), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["ordered_by"], ["users.id"]),
        sa.ForeignKeyConstraint(["closed_by"], ["users.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_card_batches_created", "card_batches", ["created_at", "id"])
    op.create_table(
        "card_batch_positions",
        sa.Column("batch_id", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("card_id", sa.String(64), nullable=False),
        sa.Column("taken_by", sa.String(64), nullable=True),
        sa.Column("taken_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["card_batches.id"]),
        sa.ForeignKeyConstraint(["card_id"], ["cards.id"]),
        sa.ForeignKeyConstraint(["taken_by"], ["users.id"]),
        sa.PrimaryKeyConstraint("batch_id", "number"),
        sa.UniqueConstraint("card_id"),
    )
    op.add_column("managed_cards", sa.Column("prepared_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take them away: the cards stay, and one that was made ready is taken for one that was never encoded."""
    op.drop_column("managed_cards", "prepared_at")
    op.drop_table("card_batch_positions")
    op.drop_table("card_batches")
