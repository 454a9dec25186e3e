"""Certificates on hold, what the CA has to confirm beside revocations, and when a CRL has to be made anew.

Revision ID: 0006
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns in place and the row that counts changes; the CA's own certificate is marked as its own."""
    op.add_column(
        "ca_certificates", sa.Column("own", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.execute(sa.text("UPDATE ca_certificates SET own = :own WHERE request_id = 'ca'").bindparams(own=True))
    op.add_column("ca_crls", sa.Column("changes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("certificates", sa.Column("held_for", sa.String(64), nullable=True))
    op.add_column(
        "revocation_queue", sa.Column("change", sa.String(64), server_default="revoke", nullable=False)
    )
    op.add_column("revocation_queue", sa.Column("last_error", sa.String(64), nullable=True))
    status = op.create_table(
        "ca_status",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(status, [{"id": 1, "changes": 0}])


def downgrade() -> None:
    """Take them away; what waits and isn't a revocation is forgotten, since it can't be told from one any more."""
    op.execute("DELETE FROM revocation_queue WHERE change <> 'revoke'")
    op.drop_table("ca_status")
    op.drop_column("revocation_queue", "last_error")
    op.drop_column("revocation_queue", "change")
    op.drop_column("certificates", "held_for")
    op.drop_column("ca_crls", "changes")
    op.execute(
        sa.text("DELETE FROM ca_certificates WHERE own = :own AND request_id <> 'ca'").bindparams(own=True)
    )
    op.drop_column("ca_certificates", "own")
