"""What a scheduler warns of, and refuses to start with, when it looks at its Redis servers."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import redis

from scheduler import preflight
from tests.support.servers import redis_server
from tests.unit.scheduler.test_preflight import GOOD

if TYPE_CHECKING:
    from pathlib import Path


def start(env: dict[str, str]) -> tuple[int, list[str]]:
    """The exit code and the lines of a recorder that its settings stop."""
    done = subprocess.run(
        [sys.executable, "-m", "scheduler", "recorder"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.fault("B48")
def test_a_redis_that_is_not_durable_is_reported(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with redis_server() as url:
        urls = {"main": url, "second": url}
        with redis.Redis.from_url(url) as client:
            assert [one.setting for one in preflight.look_at_redis(urls)] == [
                "SIMHERD_REDIS_URL",
                "SIMHERD_REDIS_SERVERS.second",
            ]
            client.config_set("maxmemory-policy", "allkeys-lru")
            eviction, no_file = preflight.look_at_redis({"main": url})
            assert "maxmemory-policy is allkeys-lru" in eviction.says
            assert "Set it to noeviction" in eviction.says
            assert "append-only file" in no_file.says
            with caplog.at_level(logging.WARNING):
                preflight.stop_or_warn([eviction], "warn")
            assert "SIMHERD_REDIS_URL" in caplog.text
            # By policy it is refused.
            env = {**GOOD, "SIMHERD_REDIS_URL": url, "SIMHERD_UNSAFE_SETTINGS": "refuse"}
            code, lines = start(env)
            assert code == 2
            assert [line.split(": ")[1] for line in lines] == ["SIMHERD_REDIS_URL"] * 2
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("dir", str(tmp_path))
            client.config_set("appendonly", "yes")
            assert list(preflight.look_at_redis({"main": url})) == []
            client.config_set("appendonly", "no")
    # One that does not answer is no reason to wait: the process tries it again and again.
    assert list(preflight.look_at_redis({"main": url})) == []
