"""How often a card's file was saved, and when an older one was seen.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns to the cards; of those that are there nothing was seen yet."""
    # in place, on SQLite as well: a copied table would lose what refers to it
    op.add_column("cards", sa.Column("generation", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("cards", sa.Column("restored_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take them away."""
    op.drop_column("cards", "restored_at")
    op.drop_column("cards", "generation")
