"""What an order's task does, kept with the order.

Revision ID: 0007
Revises: 0009
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0009"
branch_labels = None
depends_on = None

_ORDERS = sa.table(
    "orders",
    sa.column("jti", sa.String),
    sa.column("operation", sa.String),
    sa.column("parameters", sa.JSON),
    sa.column("task", sa.JSON(none_as_null=True)),
)


def upgrade() -> None:
    """Add the column; orders that make a card get the plan that their parameters tell of."""
    op.add_column("orders", sa.Column("task", sa.JSON(), nullable=True))
    connection = op.get_bind()
    query = sa.select(_ORDERS.c.jti, _ORDERS.c.parameters).where(_ORDERS.c.operation == "create_virtual_card")
    for jti, parameters in connection.execute(query).all():
        change = sa.update(_ORDERS).where(_ORDERS.c.jti == jti).values(task=_plan(parameters))
        connection.execute(change)


def downgrade() -> None:
    """Take it away."""
    op.drop_column("orders", "task")


def _plan(parameters: dict[str, Any]) -> dict[str, Any]:
    """The plan of an order that was made before there were plans: every relation is HAS_A."""
    certificates = [
        {
            "application": f"Application_{key['purpose']}",
            "slot": key["slot"],
            "template": key["purpose"],
            "algorithm": key["algorithm"],
            "source": key["source"],
            "relation": "success",
            "relation_type": "HAS_A",
            "return_variable": None,
            "hold": False,
            "recovers": None,
        }
        for key in parameters["keys"]
    ]
    return {
        "kind": "production",
        "certificates": certificates,
        "pin": "new",
        "initialise": True,
        "label": parameters["label"],
        "set_pin": True,
        "puk": None,
        "block": False,
        "clear": [],
    }
