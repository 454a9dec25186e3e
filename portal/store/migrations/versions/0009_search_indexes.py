"""What staff search by has an index.

Revision ID: 0009
Revises: 0003
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0009"
down_revision = "0003"
branch_labels = None
depends_on = None

_INDEXES: Final = (
    ("ix_users_created", "users", ("created_at", "id")),
    ("ix_cards_kind_created", "cards", ("kind", "created_at", "id")),
    ("ix_cards_kind_state_created", "cards", ("kind", "state", "created_at", "id")),
    ("ix_cards_serial", "cards", ("serial",)),
    ("ix_cards_label", "cards", ("label", "id")),
    ("ix_certificates_created", "certificates", ("created_at", "id")),
    ("ix_certificates_state_created", "certificates", ("state", "created_at", "id")),
    ("ix_certificates_ca_state_created", "certificates", ("ca_state", "created_at", "id")),
    ("ix_certificates_expiry", "certificates", ("not_after", "id")),
    ("ix_certificates_serial", "certificates", ("serial",)),
    ("ix_processes_created", "processes", ("created_at", "id")),
    ("ix_processes_state_created", "processes", ("state", "created_at", "id")),
    ("ix_processes_name_created", "processes", ("name", "created_at", "id")),
    ("ix_devices_seen", "devices", ("last_seen_at", "jkt")),
    ("ix_audit_actor", "audit", ("actor", "number")),
    ("ix_audit_action", "audit", ("action", "number")),
    ("ix_audit_at", "audit", ("at", "number")),
)


def upgrade() -> None:
    """Add the indexes; one of them begins with the certificates' state, so the old one on it alone goes."""
    for name, table, columns in _INDEXES:
        op.create_index(name, table, list(columns))
    op.drop_index("ix_certificates_state", "certificates")


def downgrade() -> None:
    """Take them away."""
    op.create_index("ix_certificates_state", "certificates", ["state"])
    for name, table, _ in reversed(_INDEXES):
        op.drop_index(name, table)
