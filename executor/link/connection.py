"""Redis connections of an executor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable


class Address:
    """The URL of Redis and its credentials, whose secret may change between connections."""

    def __init__(self, url: str, user: str = "", secret: Callable[[], str] | None = None) -> None:
        """Without `secret`, `url` holds the credentials."""
        self.url = url
        self.credentials = None if secret is None else _Credentials(user, secret)


class _Credentials(CredentialProvider):
    def __init__(self, user: str, secret: Callable[[], str]) -> None:
        self._user = user
        self._secret = secret

    def get_credentials(self) -> tuple[str, str]:
        return self._user, self._secret()


def connect(where: str | Address, *, blocking_s: float = 0, retries: int = 3) -> redis.Redis:
    """Return a client whose waits are bounded.

    Args:
        where: the URL or address of Redis.
        blocking_s: the longest blocking read that it will make, seconds.
        retries: how often a call is repeated after a lost connection; 0 where a repeated call
            would do harm.
    """
    address = Address(where) if isinstance(where, str) else where
    return redis.Redis.from_url(
        address.url,
        credential_provider=address.credentials,
        decode_responses=True,
        socket_connect_timeout=5,
        socket_timeout=5 + blocking_s,
        socket_keepalive=True,
        health_check_interval=25,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05) if retries else NoBackoff(), retries),
        retry_on_error=[redis.ConnectionError],
    )
