"""The task store on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scheduler.store.engine import Store, migrate, open_engine
from tests.support import servers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('db') / 'test.db'}"
    else:
        with servers.new_database(request.getfixturevalue("postgres_server")) as url:
            yield url


@pytest.fixture(scope="module")
def store(database_url: str) -> Iterator[Store]:
    """A store with its tables."""
    migrate(database_url)
    made = Store(open_engine(database_url))
    yield made
    made.engine.dispose()
