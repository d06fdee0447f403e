"""Values of settings that contradict each other, or that let strangers in."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from scheduler.domain.limits import GRACE_AFTER_START_S, JOIN_S, LEAST_SIGNING_KEY
from scheduler.preflight.finding import PREFIX, Finding
from scheduler.preflight.names import of_names
from scheduler.preflight.paths import of_paths
from simherd.contract import limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.config import Settings

#: Passwords that stand in examples, or that are tried first.
_WELL_KNOWN = frozenset(
    {
        *("admin", "changeme", "default", "example", "guest", "letmein", "none", "pass"),
        *("password", "postgres", "redis", "root", "secret", "simherd", "test"),
    }
)
#: Different characters that a random key of 32 hexadecimal digits has; 16 are possible, and fewer
#: than 8 of them come with a probability below 10^-7.
_LEAST_DIFFERENT = 8
_LAST_PORT = 65535
_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Settings that cannot both hold."""
    checks: list[tuple[str, bool, str]] = [
        (
            "LOG_LEVEL",
            settings.log_level.upper() not in _LEVELS,
            f"{settings.log_level!r} is not a level; there are {', '.join(_LEVELS)}",
        ),
        (
            "PORT",
            not 0 <= settings.port <= _LAST_PORT,
            f"{settings.port} is not a port; take one from 0 to {_LAST_PORT}",
        ),
        (
            "REGISTER_S",
            settings.register_s > JOIN_S,
            f"{settings.register_s:g} s are longer than a join token is good for, "
            f"{JOIN_S:g} s: a machine could not join in the rest. Take {JOIN_S:g} "
            "at the most",
        ),
        (
            "GRACE_S",
            _is_deployed(settings) and settings.grace_s < limits.HEARTBEAT_S,
            f"{settings.grace_s:g} s are shorter than the time between two heartbeats, "
            f"{limits.HEARTBEAT_S:g} s: after a restart machines that are well would be declared "
            f"lost. Take {GRACE_AFTER_START_S:g}",
        ),
        (
            "STORAGE_DIR",
            not settings.s3_bucket and settings.storage_dir is None,
            f"there is no storage: set it to a folder, or set {PREFIX}S3_BUCKET",
        ),
        (
            "BROKER_URL",
            _place(settings.broker_url.get_secret_value())
            in {_place(url) for url in settings.redis_urls.values()},
            "it is the database of a Redis server that machines use; give Celery another database, "
            "for example the same URL with /1 at its end",
        ),
    ]
    for name, wrong, says in checks:
        if wrong:
            yield Finding(f"{PREFIX}{name}", says, True)
    yield from of_names(settings)
    yield from of_paths(settings)
    places = Counter(_place(url) for url in settings.redis_urls.values())
    if any(count > 1 for count in places.values()):
        says = "two names lead to the same Redis database; its groups would be swept twice"
        yield Finding(f"{PREFIX}REDIS_SERVERS", says, True)


def _is_deployed(settings: Settings) -> bool:
    """Whether it is more than one person's `simherd up`."""
    return not settings.database_url.get_secret_value().startswith("sqlite")


def _place(url: str) -> tuple[str | None, int | None, str]:
    parts = urlsplit(url)
    return parts.hostname or parts.path, parts.port or 6379, parts.path.strip("/") or "0"


def unsafe(settings: Settings) -> Iterator[Finding]:
    """What works, and lets strangers in."""
    if not is_local(settings.host) and settings.public_url.startswith("http://"):
        says = (
            f"the API listens on {settings.host} and {PREFIX}PUBLIC_URL begins with http://: keys "
            "and files cross the network in clear. Put a proxy with TLS before it, and set "
            f"{PREFIX}PUBLIC_URL to its https:// URL"
        )
        yield Finding(f"{PREFIX}HOST", says)
    if not _is_deployed(settings):
        return
    if settings.log_level.upper() == "DEBUG":
        says = "DEBUG writes what users do into the log in full. Use INFO"
        yield Finding(f"{PREFIX}LOG_LEVEL", says)
    if len(set(settings.signing_key.get_secret_value())) < _LEAST_DIFFERENT:
        says = "it can be guessed: it repeats few characters. Make one with: openssl rand -hex 32"
        yield Finding(f"{PREFIX}SIGNING_KEY", says, True)
    bootstrap = settings.bootstrap_key
    if bootstrap is not None and len(bootstrap.get_secret_value()) < LEAST_SIGNING_KEY:
        says = f"it can be guessed: it is shorter than {LEAST_SIGNING_KEY} characters"
        yield Finding(f"{PREFIX}BOOTSTRAP_KEY", f"{says}. Make one with: openssl rand -hex 32")
    yield from _passwords(settings)


def _passwords(settings: Settings) -> Iterator[Finding]:
    urls = {"DATABASE_URL": settings.database_url, "BROKER_URL": settings.broker_url}
    more = {f"REDIS_SERVERS.{name}": one.url for name, one in settings.redis_servers.items()}
    for name, secret in {**urls, "REDIS_URL": settings.redis_url, **more}.items():
        parts = urlsplit(secret.get_secret_value())
        says = _password(parts)
        if says:
            yield Finding(f"{PREFIX}{name}", f"{says}. Make one with: openssl rand -hex 32")


def _password(parts: SplitResult) -> str:
    """What is wrong with the password of a server's URL, or nothing."""
    if parts.password is None:
        open_redis = parts.scheme in {"redis", "rediss"} and not is_local(parts.hostname or "")
        return f"the Redis server on {parts.hostname} has no password" if open_redis else ""
    if parts.password.lower() in _WELL_KNOWN or parts.password == parts.username:
        return "its password is one of those that are tried first"
    return ""


def is_local(host: str) -> bool:
    """Whether only this host's own processes reach what listens there."""
    if host in {"", "localhost"}:
        return host == "localhost"
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
