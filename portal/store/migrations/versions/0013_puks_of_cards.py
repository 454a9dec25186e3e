"""Physical cards get a PUK of their own.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("managed_cards", sa.Column("pending_puk", sa.LargeBinary(), nullable=True))
    op.add_column(
        "managed_cards", sa.Column("puk_unsure", sa.Boolean(), server_default=sa.false(), nullable=False)
    )


def downgrade() -> None:
    """Take them away: a card whose order was cut off then has one of two PUKs, and nobody knows the second."""
    op.drop_column("managed_cards", "puk_unsure")
    op.drop_column("managed_cards", "pending_puk")
