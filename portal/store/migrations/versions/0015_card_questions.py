"""Orders that know which question of their card was answered last.

Revision ID: 0015
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a running order may ask on as often as a new one."""
    op.add_column("orders", sa.Column("questions", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("orders", "questions")
