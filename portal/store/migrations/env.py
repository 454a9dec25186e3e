"""Alembic's entry: migrations run on the connection that ``portal.store.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from portal.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can't alter a table in place
    render_as_batch=True,
    transaction_per_migration=True,
)
context.run_migrations()
