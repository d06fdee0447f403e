"""The scheduler's verbs on the queues, leases and inboxes of machine groups."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from scheduler.queue.group_reader import GroupReader
from simherd.contract import limits
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import GROUPS_CHANGED, PRIORITY_BAND, GroupKeys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.queue.ownership import Ownership
    from scheduler.queue.servers import Servers
    from simherd.contract.live_frames import LiveRequest
    from simherd.contract.notifications import Observer

#: Bell entries kept at the most: more than there are idle slots wakes nobody further.
BELL_MAX = 1024

#: Keys that are scanned in one call.
_SCANNED = 1000
#: Inbox messages kept; an executor that is further behind than this has lost its attempts.
_INBOX_MAX = 1000


def connect(url: str, *, blocking_s: float = 0) -> redis.Redis:
    """Return a Redis client with bounded waits.

    Every call made through it is idempotent (the scripts take attempt names), so a retry
    after a lost connection is safe.

    `blocking_s`: longest blocking read that will be made over it, seconds.
    """
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        # Machines write these keys: bytes that are not UTF-8 must not break a connection.
        encoding_errors="replace",
        socket_connect_timeout=5,
        socket_timeout=5 + blocking_s,
        socket_keepalive=True,
        health_check_interval=25,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05), 3),
        retry_on_error=[redis.ConnectionError],
    )


def announce(client: redis.Redis) -> None:
    """Wake the recorders of a Redis server: the set of groups has changed."""
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
        """Return the arguments of `enqueue.lua`."""
        band = -self.priority * PRIORITY_BAND
        return [
            self.attempt,
            band if self.user else band + self.order,
            self.spec,
            BELL_MAX,
            self.user,
            "1" if self.ahead else "0",
        ]


@dataclass(frozen=True)
class ReconcileCursor:
    """How far a group's tasks were compared with its queue."""

    #: Submission order of the last one in this pass.
    after: int
    #: Passes that were finished since Redis last knew nothing.
    passes: int


class GroupQueue:
    """What the scheduler does with the queues; every call is safe to repeat."""

    def __init__(self, servers: Servers[redis.Redis], owned: Ownership) -> None:
        """`owned`: which machines and tasks belong to a group."""
        #: The Redis servers, each of which holds some of the groups.
        self.servers = servers
        self._owned = owned
        #: Reads what machines have written.
        self.reader = GroupReader(servers, owned)
        self._scripts = {
            name: servers.main.register_script(scripts.source(name))
            for name in ("enqueue", "withdraw", "revoke", "send", "note", "drop")
        }

    def enqueue(self, group: str, arrivals: Iterable[Arrival]) -> list[str]:
        """Queue attempts; return for each `queued`, `present` or `held`."""
        keys = GroupKeys(group)
        places = [keys.queue, keys.specs, keys.bell, keys.leases, keys.fair]
        pipe = self.servers.of(group).pipeline(transaction=False)
        for arrival in arrivals:
            self._scripts["enqueue"](keys=places, args=arrival.arguments(), client=pipe)
        return [scripts.text(reply[0]) for reply in pipe.execute()]

    def withdraw(self, group: str, attempt: str) -> tuple[str, str | None]:
        """Take a waiting attempt out of the queue; an executor that prefetches for it is stopped.
        Returns `withdrawn`, or `held` with its holder, or `absent`."""
        keys = GroupKeys(group)
        places = [keys.queue, keys.specs, keys.lease(attempt), keys.staged, keys.overtaken]
        places.append(keys.fair)
        reply = [scripts.text(word) for word in self._run(group, "withdraw", places, [attempt])]
        if reply[0] == "withdrawn":
            executor = self._own(group, reply[1].partition(":")[2])
            if executor:
                self._send(group, executor, Message(Order.UNSTAGE, attempt))
            return reply[0], None
        return reply[0], self._own(group, reply[1]) if len(reply) > 1 else None

    def _own(self, group: str, executor: str) -> str | None:
        """Return the machine that Redis names, if it belongs to the group."""
        return executor if executor and self._owned.machines(group, {executor}) else None

    def revoke(self, group: str, attempt: str) -> str:
        """Revoke a lease; return its holder, '' if there was none."""
        keys = GroupKeys(group)
        places = [keys.leases, keys.specs, keys.lease(attempt), keys.recorded]
        reply = self._run(group, "revoke", places, [attempt, limits.TOMBSTONE_S])
        return self._own(group, scripts.text(reply[1])) or ""

    def drop_lease(self, group: str, attempt: str) -> None:
        """Remove what stands among the leases and is not one."""
        keys, client = GroupKeys(group), self.servers.of(group)
        client.zrem(keys.leases, attempt)
        client.unlink(keys.lease(attempt))

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
        """Send an executor the order to stop an attempt.

        `discard`: its outputs are not wanted; `detail`: why, as a sentence, where the cause's does
        not suffice.
        """
        message = Message(Order.STOP, attempt, cause, discard=discard, detail=detail)
        self._send(group, executor, message)

    def set_deadline(
        self,
        group: str,
        executor: str,
        attempt: str,
        deadline_at: float,
        cause: Cause = Cause.TASK_TIME_LIMIT,
    ) -> None:
        """Send an executor the moment at which an attempt ends with `cause`, epoch seconds."""
        self._send(group, executor, Message(Order.DEADLINE, attempt, cause, deadline_at))

    def drain(self, group: str, executor: str) -> None:
        """Send an executor the order to claim nothing more."""
        self._send(group, executor, Message(Order.DRAIN, ""))

    def leave(self, group: str, executor: str) -> None:
        """Send an executor the order to stop everything and exit."""
        self._send(group, executor, Message(Order.LEAVE, ""))

    def ask_live(self, group: str, executor: str, attempt: str, request: LiveRequest) -> None:
        """Ask an executor about an attempt's files; it replies to `LiveAnswers`."""
        self._send(group, executor, Message(Order.LIVE_FILES, attempt, body=request.body()))

    def observe(
        self, group: str, executor: str, attempt: str, observers: Iterable[Observer]
    ) -> None:
        """Have an executor look for files of an attempt, besides those it looks for already."""
        body = {"observers": [asdict(observer) for observer in observers]}
        self._send(group, executor, Message(Order.OBSERVE, attempt, body=body))

    def _send(self, group: str, executor: str, message: Message) -> None:
        keys = GroupKeys(group)
        args = [message.encode(), _INBOX_MAX, limits.TOMBSTONE_S]
        self._run(group, "send", [keys.nothing, keys.inbox(executor)], args)

    def reconcile_cursor(self, group: str) -> ReconcileCursor:
        """Return how far the group was compared with SQL."""
        numbers: Any = self.servers.of(group).hmget(GroupKeys(group).place, "after", "passes")
        return ReconcileCursor(*(int(number or 0) for number in numbers))

    def save_reconcile_cursor(self, group: str, cursor: ReconcileCursor) -> None:
        """Store it for the next comparison."""
        self._write_progress(group, {"after": cursor.after, "passes": cursor.passes})

    def _write_progress(self, group: str, fields: dict[str, int]) -> None:
        keys = GroupKeys(group)
        words = [word for field in fields.items() for word in field]
        self._run(group, "note", [keys.nothing, keys.place], ["hash", *words])

    def next_page(self, group: str, length: int, count: int) -> int:
        """Return the rank at which the queue is read this time, so that every part has its turn.
        `length`: how long its queue is; `count`: how many entries are read."""
        stored: Any = self.servers.of(group).hget(GroupKeys(group).place, "scan")
        first = int(stored or 0)
        first = first if first < length else 0
        self._write_progress(group, {"scan": first + count})
        return first

    def forget_answers(self, group: str, attempts: list[str]) -> None:
        """Delete what was recorded of attempts whose executors are gone."""
        self.servers.of(group).hdel(GroupKeys(group).recorded, *attempts)

    def forget_machine(self, group: str, executor: str) -> None:
        """Drop a terminated machine's heartbeat, its inbox, and its other entries."""
        keys, client = GroupKeys(group), self.servers.of(group)
        client.zrem(keys.machines, executor)
        client.zrem(keys.ready, executor)
        client.hdel(keys.facts, executor)
        client.hdel(keys.claims, executor)
        client.unlink(keys.inbox(executor))

    def forget_group(self, group: str) -> None:
        """Delete every key of a group, also those that its machines invented."""
        cursor = "0"
        while True:
            args = [cursor, GroupKeys(group).every, _SCANNED]
            cursor, _ = self._run(group, "drop", [], args)
            if cursor == "0":
                return

    def announce_group(self, group: str) -> None:
        """Wake the recorders: there is a new report stream."""
        announce(self.servers.of(group))

    def _run(self, group: str, name: str, keys: list[str], args: list[Any]) -> Any:
        return self._scripts[name](keys=keys, args=args, client=self.servers.of(group))
