"""The verbs on Redis of machines that work on one attempt together."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import redis

from executor.link.connection import connect
from executor.link.lease import Claimer
from simherd.contract import limits
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import PRIORITY_BAND, GroupKeys
from simherd.contract.queue.scripts import Claimed

if TYPE_CHECKING:
    from executor.link.connection import Address
    from simherd.contract.inbox import Message

#: Seconds between two tries of a leader that has too few machines.
_GATHER_S = 1.0
#: Messages kept of an inbox, and for how long, as the scheduler has it.
_INBOX_MAX = 1000


class GangClaimer(Claimer):
    """Claims for all machines of the group at once, when they are free."""

    def __init__(self, where: str | Address, group: str, executor: str, machines: int) -> None:
        """`machines`: how many there are."""
        super().__init__(where, group, executor)
        self._machines = machines
        self._gather = self._client.register_script(scripts.source("gather"))
        self._word = "empty"
        self._woken = threading.Event()

    def claim(self, token: str, staged: str = "") -> Claimed | None:
        """See `Claimer`. Nothing is fetched ahead here."""
        self._woken.clear()
        keys = self._keys
        reply = self._gather(
            keys=[*keys.of_claim(), keys.ready, keys.gangs],
            args=[
                keys.lease_prefix,
                self._executor,
                token,
                int(limits.LEASE_S * 1000),
                PRIORITY_BAND,
                self._machines,
                int(limits.READY_S * 1000),
            ],
        )
        found = scripts.gather_reply(reply)
        self._word = found.word
        if found.word != "claimed" or found.gang is None:
            return None
        return Claimed(found.gang.attempt, found.spec)

    def wait_for_bell(self, wait_s: float) -> bool:
        """See `Claimer`. Whoever does not lead leaves the bell to the one that does."""
        if self._word == "empty":
            return super().wait_for_bell(min(wait_s, limits.HEARTBEAT_S))
        return self._woken.wait(_GATHER_S if self._word == "gather" else limits.HEARTBEAT_S)

    def interrupt(self) -> None:
        """See `Claimer`."""
        self._woken.set()
        super().interrupt()


class GangLink:
    """What the machines of a gang tell one another, and what they know of it."""

    def __init__(self, where: str | Address, group: str, executor: str) -> None:
        self._keys = GroupKeys(group)
        self.executor = executor
        self._client = connect(where)

    def send(self, executor: str, message: Message) -> None:
        """Put a message into another machine's inbox. Raises RedisError."""
        key = self._keys.inbox(executor)
        self._client.xadd(key, {"m": message.encode()}, maxlen=_INBOX_MAX)
        self._client.expire(key, limits.TOMBSTONE_S)

    def members(self, attempt: str) -> tuple[str, ...]:
        """The machines of an attempt's gang, the leader first; none once its lease is gone.

        Raises RedisError.
        """
        if self._client.zscore(self._keys.leases, attempt) is None:
            return ()
        found: Any = self._client.hget(self._keys.gangs, attempt)
        return tuple(str(found).split(",")) if found else ()

    def gangs(self) -> dict[str, tuple[str, ...]]:
        """Every attempt that has a gang. Raises RedisError."""
        found: Any = self._client.hgetall(self._keys.gangs)
        return {str(key): tuple(str(names).split(",")) for key, names in found.items()}

    def spec(self, attempt: str) -> str:
        """What was handed over with an attempt. Raises RedisError."""
        found: Any = self._client.hget(self._keys.specs, attempt)
        return str(found or "")

    def keep(self, attempt: str, members: tuple[str, ...]) -> None:
        """Say again who belongs to it, should Redis have lost that. Raises RedisError.

        Where its lease is gone this does no harm: see `gather.lua`.
        """
        self._client.hset(self._keys.gangs, attempt, ",".join(members))

    def disband(self, attempt: str) -> None:
        """Its machines are free for the next one."""
        with contextlib.suppress(redis.RedisError):
            self._client.hdel(self._keys.gangs, attempt)

    def beats(self, executors: tuple[str, ...]) -> dict[str, float]:
        """Executor → a number that changes with each of its heartbeats. Raises RedisError."""
        found = {name: self._client.zscore(self._keys.machines, name) for name in executors}
        return {name: float(str(score or 0)) for name, score in found.items()}

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()
