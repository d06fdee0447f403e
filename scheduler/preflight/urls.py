"""URLs of the servers that settings name: their form, before anything connects to them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from scheduler.preflight.finding import PREFIX, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.config import Settings

#: Redis' own schemes, with TLS and without; a database's number is all that may follow the server.
_REDIS_EXAMPLE = "redis://:PASSWORD@HOST:6379/0"
_HTTP = ("http", "https")
#: A word that has users and passwords in it, up to the last @, for they may hold one themselves.
_CREDENTIALS = re.compile(r"\S*@")
#: What our own examples have in place of one.
_PLACEHOLDER = ":PASSWORD@"


def of_urls(settings: Settings) -> Iterator[Finding]:
    """URLs that cannot be used. What is said of those with passwords holds nothing of them."""
    redis = {
        "REDIS_URL": settings.redis_url,
        "BROKER_URL": settings.broker_url,
        "MACHINES_REDIS_URL": settings.machines_redis_url,
    }
    for name, server in settings.redis_servers.items():
        redis[f"REDIS_SERVERS.{name}.url"] = server.url
        redis[f"REDIS_SERVERS.{name}.machines_url"] = server.machines_url
    for name, secret in redis.items():
        if secret is not None and not _is_redis(secret.get_secret_value()):
            yield Finding(
                f"{PREFIX}{name}",
                f"it is not a URL of a Redis server. Write {_REDIS_EXAMPLE}",
                True,
            )
    http = {
        "PUBLIC_URL": settings.public_url,
        "MACHINES_API_URL": settings.machines_api_url,
        "S3_ENDPOINT_URL": settings.s3_endpoint_url,
        "S3_PUBLIC_URL": settings.s3_public_url,
        "OTLP_ENDPOINT": settings.otlp_endpoint,
        "EC2_ENDPOINT_URL": settings.ec2.endpoint_url,
    }
    for name, url in http.items():
        if url and not _has_server(url, _HTTP):
            says = f"{without_credentials(url)!r} is not a URL such as https://HOST or http://HOST:PORT"
            yield Finding(f"{PREFIX}{name}", says, True)


def without_credentials(url: str) -> str:
    """The URL without the user and the password that it may hold."""
    return _CREDENTIALS.sub(_hide, url)


def _hide(found: re.Match[str]) -> str:
    word = found[0]
    if word.endswith(_PLACEHOLDER):
        return word
    scheme, is_url, _ = word.partition("://")
    return f"{scheme}://***@" if is_url else "***@"


def _is_redis(url: str) -> bool:
    if not _has_server(url, ("redis", "rediss")):
        return False
    number = urlsplit(url).path.strip("/")
    return not number or number.isdecimal()


def _has_server(url: str, schemes: tuple[str, ...]) -> bool:
    """Whether it has one of the schemes, a host, and a port that can be one."""
    try:
        parts = urlsplit(url)
        is_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return (
        parts.scheme in schemes and bool(parts.hostname) and is_port and not re.search(r"\s", url)
    )
