"""The queue's verbs of both sides on a real Redis, each test in a separate group."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from scheduler.queue.group_queue import GroupQueue, connect
from tests.support.queue import Everything, Side, one_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    made = connect(redis_url)
    yield made
    made.close()


@pytest.fixture
def side(redis_url: str, client: redis.Redis) -> Side:
    return Side(uuid.uuid4().hex, redis_url, GroupQueue(one_server(client), Everything()))
