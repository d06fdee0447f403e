"""Redis connections of an executor."""

from __future__ import annotations

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry


def connect(url: str, *, blocking_s: float = 0, retries: int = 3) -> redis.Redis:
    """A client with bounded waits.

    Args:
        url: where Redis is.
        blocking_s: longest blocking read that will be made over it, seconds.
        retries: how often a call is repeated after a lost connection; 0 where repeating it
            would not be harmless.
    """
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=5,
        socket_timeout=5 + blocking_s,
        socket_keepalive=True,
        health_check_interval=25,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05) if retries else NoBackoff(), retries),
        retry_on_error=[redis.ConnectionError],
    )
