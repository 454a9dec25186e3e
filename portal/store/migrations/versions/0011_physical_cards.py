"""Physical cards that the portal encodes: their management keys, and orders that have begun to change one.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and the column."""
    op.create_table(
        "managed_cards",
        sa.Column("card_id", sa.String(64), nullable=False),
        sa.Column("key_generation", sa.BigInteger(), nullable=False),
        sa.Column("key_algorithm", sa.String(64), nullable=True),
        sa.Column("pending_generation", sa.BigInteger(), nullable=True),
        sa.Column("pending_algorithm", sa.String(64), nullable=True),
        sa.Column("pending_guid", sa.String(64), nullable=True),
        sa.Column("encoded_for", sa.String(64), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["card_id"], ["cards.id"]),
        sa.ForeignKeyConstraint(["encoded_for"], ["users.id"]),
        sa.PrimaryKeyConstraint("card_id"),
    )
    op.create_table(
        "sealed_secrets",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("orders", sa.Column("changing_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take them away: cards that have keys of their own can't be worked on any more."""
    op.drop_column("orders", "changing_at")
    op.drop_table("sealed_secrets")
    op.drop_table("managed_cards")
