"""Agreements to recover archived keys.

Revision ID: 0010
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add their table."""
    op.create_table(
        "recovery_permits",
        sa.Column("process_id", sa.String(64), nullable=False),
        sa.Column("owner_id", sa.String(64), nullable=False),
        sa.Column("asked_by", sa.String(64), nullable=False),
        sa.Column("approved_by", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_by", sa.String(64), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"]),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"]),
        sa.ForeignKeyConstraint(["used_by"], ["orders.jti"]),
        sa.PrimaryKeyConstraint("process_id"),
    )
    op.create_index(op.f("ix_recovery_permits_owner_id"), "recovery_permits", ["owner_id"], unique=False)


def downgrade() -> None:
    """Take it away; what was agreed to stands in the audit log."""
    op.drop_index(op.f("ix_recovery_permits_owner_id"), table_name="recovery_permits")
    op.drop_table("recovery_permits")
