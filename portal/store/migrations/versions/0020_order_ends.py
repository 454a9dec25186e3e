"""Orders that know in which sequence those of one card have ended.

Revision ID: 0020
Revises: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0017"
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


def upgrade() -> None:
    """Add the column; what has ended is numbered by when it was last changed, as well as seconds tell."""
    op.add_column("orders", sa.Column("ended", sa.BigInteger(), nullable=True))
    op.execute(_NUMBERED)


def downgrade() -> None:
    """Take it away."""
    op.drop_column("orders", "ended")
