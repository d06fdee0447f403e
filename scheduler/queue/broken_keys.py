"""Errors of Redis: those of one machine group's keys, and those of Redis itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import redis
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class BrokenKeys(redis.RedisError):
    """Keys of a machine group cannot be read; the message says which, and why.
    A caller that only reads a group treats it like a Redis that is unreachable."""

    def __init__(self, group: str, reason: str) -> None:
        super().__init__(reason)
        self.group = group
        self.reason = reason


#: Errors that are about Redis itself, by class and by the first word of the message.
_OF_REDIS = (
    OutOfMemoryError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
)
_WORDS_OF_REDIS = ("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE", "EXECABORT", "NOAUTH")


def broken_keys(error: redis.RedisError) -> str | None:
    """Return why an error is the fault of one group's keys; None where it is a fault of Redis."""
    if isinstance(error, BrokenKeys):
        return error.reason
    is_of_redis = isinstance(error, _OF_REDIS) or str(error).startswith(_WORDS_OF_REDIS)
    if isinstance(error, redis.ResponseError) and not is_of_redis:
        # A machine may have written a key of another type, or an entry with the last possible id.
        return f"Redis refuses to work with one of its keys ({error})"
    return None


@contextlib.contextmanager
def reading(group: str, what: str) -> Iterator[None]:
    """Raise `BrokenKeys` for errors that are about one key."""
    try:
        yield
    except redis.ResponseError as error:
        if "WRONGTYPE" in str(error):
            raise BrokenKeys(group, f"{what}: a key of another type is in its place") from error
        reason = broken_keys(error)
        if reason is None:
            raise
        raise BrokenKeys(group, f"{what}: {reason}") from error
