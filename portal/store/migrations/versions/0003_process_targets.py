"""What a process works on, whom it is about, and who agreed to it.

Revision ID: 0003
Revises: 0006
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0006"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "subject_id": sa.String(64),
    "target_kind": sa.String(64),
    "target_id": sa.String(64),
    "approved_by": sa.String(64),
    "approved_at": sa.BigInteger(),
}
_SEARCHED = ("subject_id", "target_id")


def upgrade() -> None:
    """Add the columns; processes that are there have no target and are about who started them."""
    # in place, on SQLite as well: a copied table would lose what refers to it
    for name, type_ in _COLUMNS.items():
        op.add_column("processes", sa.Column(name, type_, nullable=True))
    for name in _SEARCHED:
        op.create_index(op.f(f"ix_processes_{name}"), "processes", [name], unique=False)


def downgrade() -> None:
    """Take them away."""
    for name in _SEARCHED:
        op.drop_index(op.f(f"ix_processes_{name}"), table_name="processes")
    for name in reversed(_COLUMNS):
        op.drop_column("processes", name)
