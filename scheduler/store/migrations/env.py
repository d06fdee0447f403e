"""Alembic's entry point: runs the migrations on the connection that the caller configured."""

from __future__ import annotations

from alembic import context

from scheduler.store.models import Base


def run() -> None:
    """Run the migrations in the caller's transaction: all of them, or none."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        # SQLite cannot alter columns in place.
        render_as_batch=True,
    )
    context.run_migrations()


run()
