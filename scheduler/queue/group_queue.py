"""The scheduler's verbs on the queues, leases and inboxes of machine groups."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from simherd.contract import limits
from simherd.contract.commands import Message, Order
from simherd.contract.outcome import Cause
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import GROUPS_CHANGED, PRIORITY_BAND, GroupKeys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scheduler.queue.servers import Servers
    from simherd.contract.live import LiveRequest
    from simherd.contract.triggers import Observer

#: Inbox messages kept; an executor that is further behind than this has lost its attempts.
_INBOX_MAX = 1000


def connect(url: str, *, blocking_s: float = 0) -> redis.Redis:
    """A Redis client with bounded waits.

    Every call made through it is idempotent (the scripts take attempt names), so a retry
    after a lost connection is safe.

    Args:
        url: where Redis is.
        blocking_s: longest blocking read that will be made over it, seconds.
    """
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=5,
        socket_timeout=5 + blocking_s,
        socket_keepalive=True,
        health_check_interval=25,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05), 3),
        retry_on_error=[redis.ConnectionError],
    )


def announce(client: redis.Redis) -> None:
    """Wake the recorders of a Redis server, and have them look which groups there are."""
    client.xadd(GROUPS_CHANGED, {"c": "1"}, maxlen=10)


@dataclass(frozen=True)
class Arrival:
    """An attempt that is to be queued."""

    attempt: str
    #: Its place among those of its priority, in a group of one user.
    order: int
    #: What a claim hands over.
    spec: str
    #: Higher ones go first.
    priority: int = 0
    #: Whose it is, in a group that several users share: they take turns.
    user: str = ""
    #: There it goes before everything that waits with its priority.
    ahead: bool = False

    def arguments(self) -> list[Any]:
        """What `enqueue.lua` is told."""
        band = -self.priority * PRIORITY_BAND
        return [
            self.attempt,
            band if self.user else band + self.order,
            self.spec,
            limits.BELL_MAX,
            self.user,
            "1" if self.ahead else "0",
        ]


@dataclass(frozen=True)
class Place:
    """How far a group's tasks were compared with its queue."""

    #: Submission order of the last one in this pass.
    after: int
    #: Passes that were finished since Redis last knew nothing.
    passes: int


class GroupQueue:
    """What the scheduler does with the queues; every call is safe to repeat."""

    def __init__(self, servers: Servers[redis.Redis]) -> None:
        self._servers = servers
        self._scripts = {
            name: servers.main.register_script(scripts.source(name))
            for name in ("enqueue", "withdraw", "expire", "revoke")
        }

    @property
    def servers(self) -> Servers[redis.Redis]:
        """The Redis servers, each of which holds some of the groups."""
        return self._servers

    @property
    def client(self) -> redis.Redis:
        """The main server's client: for what belongs to no group."""
        return self._servers.main

    def enqueue(self, group: str, arrivals: Iterable[Arrival]) -> list[str]:
        """Queue attempts; answers for each `queued`, `present` or `held`."""
        keys = GroupKeys(group)
        places = [keys.queue, keys.specs, keys.bell, keys.leases, keys.fair]
        pipe = self._servers.of(group).pipeline(transaction=False)
        for arrival in arrivals:
            self._scripts["enqueue"](keys=places, args=arrival.arguments(), client=pipe)
        return [scripts.text(reply[0]) for reply in pipe.execute()]

    def withdraw(self, group: str, attempt: str) -> tuple[str, str | None]:
        """Take a waiting attempt out. An executor that fetches for it ahead is told to stop.

        Returns:
            `withdrawn`, or `held` with its holder, or `absent`.
        """
        keys = GroupKeys(group)
        places = [keys.queue, keys.specs, keys.lease(attempt), keys.staged, keys.overtaken]
        places.append(keys.fair)
        reply = [scripts.text(word) for word in self._run(group, "withdraw", places, [attempt])]
        if reply[0] == "withdrawn":
            _, _, executor = reply[1].partition(":")
            if executor:
                self._send(group, executor, Message(Order.UNSTAGE, attempt))
            return reply[0], None
        return reply[0], reply[1] if len(reply) > 1 else None

    def stager(self, group: str, attempt: str) -> str | None:
        """The executor that fetches for a waiting attempt ahead."""
        mark: Any = self._servers.of(group).hget(GroupKeys(group).staged, attempt)
        expiry_ms, _, executor = str(mark or "0:").partition(":")
        return executor if float(expiry_ms) > 1000 * time.time() else None

    def overdue(self, group: str, most: int = 500) -> scripts.Expiry:
        """The leases that have run out."""
        keys = GroupKeys(group)
        return scripts.expire_reply(
            self._run(group, "expire", [keys.leases, keys.machines], [keys.lease_prefix, most])
        )

    def revoke(self, group: str, attempt: str) -> str:
        """Take a lease from its holder for good; answers the holder, '' if there was none."""
        keys = GroupKeys(group)
        reply = self._run(
            group,
            "revoke",
            [keys.leases, keys.specs, keys.lease(attempt), keys.recorded],
            [attempt, limits.TOMBSTONE_S],
        )
        return scripts.text(reply[1])

    def stop(
        self,
        group: str,
        executor: str,
        attempt: str,
        cause: Cause,
        *,
        discard: bool = False,
        detail: str | None = None,
    ) -> None:
        """Tell an executor to stop an attempt.

        Args:
            group: its machine group.
            executor: who is told.
            attempt: the attempt's name.
            cause: why.
            discard: its outputs are not wanted.
            detail: why, as a sentence, where the cause's own will not do.
        """
        message = Message(Order.STOP, attempt, cause, discard=discard, detail=detail)
        self._send(group, executor, message)

    def gangs(self, group: str) -> dict[str, tuple[str, ...]]:
        """Attempt that is held by machines that work together → these, the leader first."""
        found: Any = self._servers.of(group).hgetall(GroupKeys(group).gangs)
        held = set(self.held(group)) if found else set()
        return {str(a): tuple(str(m).split(",")) for a, m in found.items() if a in held}

    def set_deadline(
        self,
        group: str,
        executor: str,
        attempt: str,
        deadline_at: float,
        cause: Cause = Cause.TASK_TIME_LIMIT,
    ) -> None:
        """Tell an executor when an attempt ends with `cause`, seconds since the epoch."""
        self._send(group, executor, Message(Order.DEADLINE, attempt, cause, deadline_at))

    def drain(self, group: str, executor: str) -> None:
        """Tell an executor to claim nothing more."""
        self._send(group, executor, Message(Order.DRAIN, ""))

    def leave(self, group: str, executor: str) -> None:
        """Tell an executor to stop everything, and to end."""
        self._send(group, executor, Message(Order.LEAVE, ""))

    def facts(self, group: str) -> dict[str, dict[str, Any]]:
        """Executor → what it last told of its machine."""
        found: Any = self._servers.of(group).hgetall(GroupKeys(group).facts)
        return {str(name): json.loads(text) for name, text in found.items()}

    def holdings(self, group: str) -> dict[str, str]:
        """Attempt that is held → the executor that holds it."""
        keys = GroupKeys(group)
        held = self.held(group)
        pipe = self._servers.of(group).pipeline(transaction=False)
        for attempt in held:
            pipe.hget(keys.lease(attempt), "holder")
        found = zip(held, pipe.execute(), strict=True)
        return {attempt: str(holder) for attempt, holder in found if holder}

    def holder(self, group: str, attempt: str) -> str | None:
        """The executor that holds an attempt."""
        found: Any = self._servers.of(group).hget(GroupKeys(group).lease(attempt), "holder")
        return str(found) if found else None

    def holders(self, group: str) -> set[str]:
        """The executors that hold a lease."""
        return set(self.holdings(group).values())

    def ask_live(self, group: str, executor: str, attempt: str, asked: LiveRequest) -> None:
        """Ask an executor about an attempt's files; see `LiveAnswers` for what it says."""
        self._send(group, executor, Message(Order.LIVE_FILES, attempt, body=asked.body()))

    def observe(
        self, group: str, executor: str, attempt: str, observers: Iterable[Observer]
    ) -> None:
        """Have an executor look for files of an attempt, besides those it looks for already."""
        body = {"observers": [observer.encode() for observer in observers]}
        self._send(group, executor, Message(Order.OBSERVE, attempt, body=body))

    def _send(self, group: str, executor: str, message: Message) -> None:
        key = GroupKeys(group).inbox(executor)
        self._servers.of(group).xadd(key, {"m": message.encode()}, maxlen=_INBOX_MAX)
        self._servers.of(group).expire(key, limits.TOMBSTONE_S)

    def position(self, group: str, attempt: str) -> int | None:
        """How many attempts are ahead of a waiting one; None when it does not wait."""
        rank: Any = self._servers.of(group).zrank(GroupKeys(group).queue, attempt)
        return None if rank is None else int(rank)

    def known(self, group: str, attempts: Sequence[str]) -> list[tuple[bool, bool]]:
        """For each of some attempts, whether it waits, and whether it is held."""
        if not attempts:
            return []
        keys, pipe = GroupKeys(group), self._servers.of(group).pipeline(transaction=False)
        pipe.zmscore(keys.queue, list(attempts))
        pipe.zmscore(keys.leases, list(attempts))
        queued, leased = pipe.execute()
        return [(q is not None, h is not None) for q, h in zip(queued, leased, strict=True)]

    def place(self, group: str) -> Place:
        """How far the group was compared with SQL."""
        found: Any = self._servers.of(group).hmget(GroupKeys(group).place, "after", "passes")
        return Place(*(int(number or 0) for number in found))

    def note_place(self, group: str, place: Place) -> None:
        """Note it for whoever compares next."""
        fields: dict[Any, Any] = {"after": place.after, "passes": place.passes}
        self._servers.of(group).hset(GroupKeys(group).place, mapping=fields)

    def scan_waiting(self, group: str, count: int) -> set[str]:
        """About so many of the waiting attempts: others each time, until all had their turn."""
        client, keys = self._servers.of(group), GroupKeys(group)
        cursor: Any = client.hget(keys.place, "scan")
        after, found = client.zscan(keys.queue, int(cursor or 0), count=count)
        client.hset(keys.place, "scan", after)
        return {str(attempt) for attempt, _ in found}

    def length(self, group: str) -> int:
        """How many attempts wait."""
        found: Any = self._servers.of(group).zcard(GroupKeys(group).queue)
        return int(found)

    def first(self, group: str) -> str | None:
        """The attempt that is next in line."""
        found: Any = self._servers.of(group).zrange(GroupKeys(group).queue, 0, 0)
        return str(found[0]) if found else None

    def held(self, group: str) -> list[str]:
        """Every attempt that somebody holds a lease on."""
        found: Any = self._servers.of(group).zrange(GroupKeys(group).leases, 0, -1)
        return [str(a) for a in found]

    def answered(self, group: str) -> list[str]:
        """Every attempt for which an executor may still ask what was recorded."""
        found: Any = self._servers.of(group).hkeys(GroupKeys(group).recorded)
        return [str(a) for a in found]

    def forget_answers(self, group: str, attempts: list[str]) -> None:
        """Drop the answers for attempts whose executors are gone."""
        self._servers.of(group).hdel(GroupKeys(group).recorded, *attempts)

    def heartbeats(self, group: str) -> dict[str, float]:
        """Executor → when it was last heard of, seconds since the epoch."""
        found: Any = self._servers.of(group).zrange(
            GroupKeys(group).machines, 0, -1, withscores=True
        )
        return {str(name): float(ms) / 1000 for name, ms in found}

    def forget_machine(self, group: str, executor: str) -> None:
        """Drop a terminated machine's heartbeat and inbox."""
        keys = GroupKeys(group)
        self._servers.of(group).zrem(keys.machines, executor)
        self._servers.of(group).zrem(keys.ready, executor)
        self._servers.of(group).hdel(keys.facts, executor)
        self._servers.of(group).delete(keys.inbox(executor))

    def forget_group(self, group: str) -> None:
        """Drop what a terminated group leaves behind."""
        keys = GroupKeys(group)
        self._servers.of(group).delete(
            keys.queue,
            keys.specs,
            keys.bell,
            keys.machines,
            keys.facts,
            keys.staged,
            keys.overtaken,
            keys.fair,
            keys.ready,
            keys.gangs,
            keys.recorded,
            keys.place,
            keys.events,
        )

    def announce_group(self, group: str) -> None:
        """Tell the recorders that there is a new event stream to read."""
        announce(self._servers.of(group))

    def _run(self, group: str, name: str, keys: list[str], args: list[Any]) -> Any:
        return self._scripts[name](keys=keys, args=args, client=self._servers.of(group))
