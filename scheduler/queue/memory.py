"""How much memory Redis has left, what each machine group uses of it, and when to measure."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simherd.contract.queue import scripts
from simherd.contract.queue.keys import PREFIX

if TYPE_CHECKING:
    import redis

#: Share of Redis' memory limit from which submissions are refused: what is left is for those who
#: work already.
REDIS_FULL_SHARE = 0.9
#: Seconds between two looks at what a group takes, where there is no such need.
REDIS_USAGE_EVERY_S = 60.0

#: Keys that are scanned in one call, during which Redis serves no other client.
_SCANNED = 1000
#: Elements of a key whose size is taken for that of the others, where that is good enough.
_SAMPLES = 5
#: The next measurement waits at least so many times as long as the last one took: Redis does
#: nothing else meanwhile.
_REST = 50


class RedisFull(Exception):
    """Redis has nearly reached its memory limit."""


@dataclass(frozen=True)
class Memory:
    """The used and the allowed memory of a Redis server, bytes; a limit of 0 means none."""

    used: int
    limit: int

    @property
    def share(self) -> float:
        """The used part of the limit; 0 without one."""
        return self.used / self.limit if self.limit else 0.0


@dataclass(frozen=True)
class GroupUsage:
    """What a machine group has in Redis."""

    keys: int
    bytes: int


def memory_of(client: redis.Redis) -> Memory:
    """Return the memory of a server."""
    info: Any = client.info("memory")
    return Memory(int(info["used_memory"]), int(info.get("maxmemory", 0)))


def group_usages(client: redis.Redis, *, exact: bool = False) -> dict[str, GroupUsage]:
    """Return machine group → what it has on a server.
    `exact`: measure every element of long keys, which takes Redis longer."""
    script = client.register_script(scripts.source("measure_keys"))
    keys: dict[str, int] = defaultdict(int)
    sizes: dict[str, int] = defaultdict(int)
    cursor = "0"
    while True:
        args: list[str | int] = [cursor, f"{PREFIX}:{{*", _SCANNED, 0 if exact else _SAMPLES]
        reply: Any = script(args=args)
        cursor, rows = reply
        for group, number, size in rows:
            keys[group] += number
            sizes[group] += size
        if cursor == "0":
            return {group: GroupUsage(keys[group], sizes[group]) for group in keys}


def check_room(client: redis.Redis) -> None:
    """Check that a server has room for more tasks; it takes Redis a tenth of a millisecond.
    Raises RedisFull: it has nearly reached its limit."""
    memory = memory_of(client)
    if memory.share >= REDIS_FULL_SHARE:
        raise RedisFull(
            f"The queue's memory is full ({memory.used} of {memory.limit} bytes are used): "
            "no more tasks are taken just now. Try again in a minute."
        )


class UsageClock:
    """When a process last measured each Redis server."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def is_due(self, server: str) -> bool:
        """Whether it is time to measure a server again."""
        return time.monotonic() >= self._due.get(server, 0.0)

    def restart(self, server: str, took_s: float) -> None:
        """Start the wait after a measurement that took `took_s` seconds."""
        wait_s = max(REDIS_USAGE_EVERY_S, _REST * took_s)
        self._due[server] = time.monotonic() + wait_s
