"""Whether the Redis servers keep what they are given."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import redis

from scheduler.domain.limits import MAIN_SERVER
from scheduler.preflight.finding import PREFIX, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

#: Seconds that a Redis server has for its answer: a start does not wait for one that is down.
_REDIS_S = 2.0


def look_at_redis(urls: Mapping[str, str]) -> Iterator[Finding]:
    """Redis servers that would lose queues and leases; one that does not answer is left out.
    `urls`: name → URL of each server."""
    for name, url in urls.items():
        setting = f"{PREFIX}REDIS_URL"
        if name != MAIN_SERVER:
            setting = f"{PREFIX}REDIS_SERVERS.{name}"
        for says in _redis(url):
            yield Finding(setting, says)


def _redis(url: str) -> Iterator[str]:
    client = redis.Redis.from_url(
        url, socket_timeout=_REDIS_S, socket_connect_timeout=_REDIS_S, decode_responses=True
    )
    try:
        # Not CONFIG GET: a rented Redis server often refuses that.
        info: Any = {**client.info("memory"), **client.info("persistence")}
    except redis.RedisError as error:
        log.info("event=redis_not_judged error=%s", error)
        return
    finally:
        client.close()
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"the server's maxmemory-policy is {policy}: when its memory is full it deletes queues "
            "and leases. Set it to noeviction"
        )
    if not int(info.get("aof_enabled", 1)):
        yield (
            "the server has no append-only file: after a restart its queues and leases are gone, "
            "and tasks run again. Set appendonly to yes"
        )
