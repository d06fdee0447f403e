"""The calls to Redis of machines that work on one attempt together."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import redis

from executor.link.connection import Address, connect
from executor.link.lease import Claimer
from simherd.contract import limits
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import PRIORITY_BAND, GroupKeys
from simherd.contract.queue.scripts import Claimed

if TYPE_CHECKING:
    from simherd.contract.inbox import Message

#: Seconds for which a machine that works together with others is known to be free; renewed with
#: every try to claim, each `HEARTBEAT_S`.
READY_S = 12.0

#: Seconds between two attempts of a leader to gather enough machines.
_GATHER_S = 1.0
#: Messages kept in an inbox, as the scheduler has it.
_INBOX_MAX = 1000


class GangClaimer(Claimer):
    """Claims an attempt for all machines of the group at once, when they are free."""

    def __init__(self, where: str | Address, group: str, executor: str, machines: int) -> None:
        """`machines`: the number of machines in the group."""
        super().__init__(where, group, executor)
        self._machines = machines
        self._gather = self._client.register_script(scripts.source("gather"))
        self._word = "empty"
        self._woken = threading.Event()

    def claim(self, token: str, staged: str = "") -> Claimed | None:
        """See `Claimer`. Nothing is prefetched here."""
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
                int(READY_S * 1000),
            ],
        )
        gathered = scripts.gather_reply(reply)
        self._word = gathered.word
        if gathered.word != "claimed" or gathered.gang is None:
            return None
        return Claimed(gathered.gang.attempt, gathered.spec)

    def wait_for_bell(self, wait_s: float) -> bool:
        """See `Claimer`. A machine that does not lead leaves the bell to the leader."""
        if self._word == "empty":
            return super().wait_for_bell(min(wait_s, limits.HEARTBEAT_S))
        return self._woken.wait(_GATHER_S if self._word == "gather" else limits.HEARTBEAT_S)

    def interrupt(self) -> None:
        self._woken.set()
        super().interrupt()


class GangLink:
    """The messages between the machines of a gang, and who belongs to it."""

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
        """Return the machines of an attempt's gang, the leader first; empty once its lease is gone.
        Raises RedisError."""
        if self._client.zscore(self._keys.leases, attempt) is None:
            return ()
        names: Any = self._client.hget(self._keys.gangs, attempt)
        return tuple(str(names).split(",")) if names else ()

    def gangs(self) -> dict[str, tuple[str, ...]]:
        """Return the machines of every attempt that has a gang. Raises RedisError."""
        gangs: Any = self._client.hgetall(self._keys.gangs)
        return {str(key): tuple(str(names).split(",")) for key, names in gangs.items()}

    def spec(self, attempt: str) -> str:
        """Return the specification of an attempt as JSON. Raises RedisError."""
        spec: Any = self._client.hget(self._keys.specs, attempt)
        return str(spec or "")

    def keep(self, attempt: str, members: tuple[str, ...]) -> None:
        """Store again who belongs to a gang, in case Redis has lost it. Raises RedisError. This
        does no harm once the lease is gone: see `gather.lua`."""
        self._client.hset(self._keys.gangs, attempt, ",".join(members))

    def disband(self, attempt: str) -> None:
        """Free the machines of a gang for the next attempt."""
        with contextlib.suppress(redis.RedisError):
            self._client.hdel(self._keys.gangs, attempt)

    def beats(self, executors: tuple[str, ...]) -> dict[str, float]:
        """Return for each executor a number that changes with its heartbeats. Raises RedisError."""
        scores = {name: self._client.zscore(self._keys.machines, name) for name in executors}
        return {name: float(str(score or 0)) for name, score in scores.items()}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
