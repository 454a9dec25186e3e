"""Cards that know how they are talked to, and by which description they are made.

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; every card in a reader was a PIV card until now."""
    op.add_column("cards", sa.Column("driver", sa.String(64), nullable=False, server_default="piv"))
    op.add_column("cards", sa.Column("described_by", sa.String(64), nullable=True))
    op.execute("UPDATE cards SET driver = 'virtual' WHERE kind = 'virtual_smart_card'")


def downgrade() -> None:
    """Take them away: a card that is made through PKCS#11 is taken for a PIV card, and no longer found in a reader."""
    op.drop_column("cards", "described_by")
    op.drop_column("cards", "driver")
