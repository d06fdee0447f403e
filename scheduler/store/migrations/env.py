"""Alembic's entry point: runs the migrations on the URL that the caller configured."""

from __future__ import annotations

from alembic import context

from scheduler.store.engine import open_engine
from scheduler.store.models import Base


def run() -> None:
    """Run the migrations in one transaction."""
    url = context.config.get_main_option("sqlalchemy.url")
    assert url is not None
    engine = open_engine(url)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            # SQLite cannot alter columns in place.
            render_as_batch=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
