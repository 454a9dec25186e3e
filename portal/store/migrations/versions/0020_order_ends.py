"""Orders that know in which sequence those of one card have ended, and cards that have proved themselves.

Revision ID: 0020
Revises: 0018
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None

_NUMBERED = """
UPDATE orders SET ended = (
    SELECT numbered.place FROM (
        SELECT jti, ROW_NUMBER() OVER (PARTITION BY card_id ORDER BY changed_at, created_at, jti) AS place
        FROM orders
        WHERE card_id IS NOT NULL AND state IN ('finishing', 'finished', 'undoing', 'undone')
    ) AS numbered
    WHERE numbered.jti = orders.jti
)
"""
_NEW = (
    ("managed_cards", "proved_at"),
    ("managed_cards", "mutual"),
    ("orders", "proved"),
    ("orders", "card_challenge"),
    ("orders", "ended"),
)


def upgrade() -> None:
    """Add the columns: no card has proved itself, and what has ended is numbered by when it was changed last."""
    op.add_column("orders", sa.Column("ended", sa.BigInteger(), nullable=True))
    op.execute(_NUMBERED)
    op.add_column("orders", sa.Column("card_challenge", sa.JSON(), nullable=True))
    op.add_column("orders", sa.Column("proved", sa.BigInteger(), nullable=True))
    op.add_column(
        "managed_cards", sa.Column("mutual", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("managed_cards", sa.Column("proved_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take them away."""
    for table, column in _NEW:
        op.drop_column(table, column)
