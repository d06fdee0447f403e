"""The one reader of what machines write into their group's keys.

Machines hold credentials for these keys, so everything in them is untrusted. What is returned here
has the right type, is within bounds, and belongs to the group; the rest is counted, logged once and
left out (`DroppedInput`). Keys that cannot be read at all raise `BrokenKeys`: the group is then
quarantined, without effect on others.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from scheduler.queue.broken_keys import BrokenKeys, broken_keys, reading
from scheduler.queue.dropped_input import DroppedInput
from scheduler.queue.limits import CLOCK_AHEAD_S, MAX_REDIS_NAME
from scheduler.queue.machine_input import InvalidMachineInput, parse_facts, parse_report
from simherd.contract.attempt_spec import attempt_key, parse_attempt
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import GroupKeys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from scheduler.queue.ownership import Ownership
    from scheduler.queue.servers import Servers
    from simherd.contract.reports import Report

#: Longest report of an executor, bytes: the largest holds the arguments of a command.
MAX_REPORT_BYTES = 256 * 1024
#: Longest JSON in which a machine describes itself, bytes.
MAX_FACTS_BYTES = 16 * 1024
#: Leases, machines and other entries of one key that the scheduler reads at the most.
MAX_GROUP_ENTRIES = 100_000

#: Reports, and their bytes, that are read of one group before the others have their turn.
BATCH = 500
_BATCH_BYTES = 8 * 1024**2
#: The latest time that a score can be, ms since the epoch: the year 2200.
_LATEST_MS = 7_258_118_400_000.0
#: Machines of one MPI group.
_MOST_MEMBERS = 1000


@dataclass(frozen=True)
class Lease:
    """An attempt that a machine of the group holds, and when its lease expires, ms."""

    attempt: str
    #: '' where it is not known.
    holder: str
    expiry_ms: float


@dataclass(frozen=True)
class Leases:
    """The leases of a group at one moment."""

    #: Redis' time, ms since the epoch.
    now_ms: float
    all: tuple[Lease, ...]
    #: Machine → when its last heartbeat came, ms since the epoch.
    seen_ms: dict[str, float]

    @property
    def holders(self) -> dict[str, str]:
        """Attempt → the machine that holds it."""
        return {lease.attempt: lease.holder for lease in self.all if lease.holder}

    @property
    def overdue(self) -> tuple[Lease, ...]:
        """Those that have expired."""
        return tuple(lease for lease in self.all if lease.expiry_ms <= self.now_ms)


@dataclass(frozen=True)
class StreamEntry:
    """One entry of the report stream; without a report it was left out."""

    id: str
    report: Report | None


class GroupReader:
    """Reads the keys of machine groups; safe to use from several threads."""

    def __init__(self, servers: Servers[redis.Redis], owned: Ownership) -> None:
        self._servers = servers
        self._owned = owned
        self.dropped = DroppedInput()
        self._scripts = {
            name: servers.main.register_script(scripts.source(name))
            for name in ("read_fields", "read_hash", "read_scores", "read_stream")
        }

    def facts(self, group: str, machines: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return machine → what it last said about itself, see `MachineFacts`.
        `machines`: those of the group, as SQL has them."""
        names = sorted(machines)
        facts = {}
        for name, text in self._fields(group, "facts", names, MAX_FACTS_BYTES).items():
            try:
                facts[name] = parse_facts(text)
            except InvalidMachineInput as error:
                self.dropped.count(group, "facts", error)
        return facts

    def heartbeats(self, group: str) -> dict[str, float]:
        """Return machine → when its last heartbeat came, seconds since the epoch."""
        return {m: ms / 1000 for m, ms in self._heartbeats_ms(group).items()}

    def leases(self, group: str) -> Leases:
        """Return the leases of the group's own tasks that its own machines hold."""
        client, keys = self._servers.of(group), GroupKeys(group)
        clock: Any = client.time()
        rows = self._scores(group, "leases", holders=keys.lease_prefix)
        known_machines = self._owned.machines(group, {holder for _, _, holder in rows} - {""})
        attempts = self._own_attempts(group, "lease", (attempt for attempt, _, _ in rows))
        leases = []
        for attempt, expiry_ms, holder in rows:
            if attempt not in attempts:
                continue
            if holder and holder not in known_machines:
                self.dropped.count(group, "lease_holder", holder)
                holder = ""
            leases.append(Lease(attempt, holder, expiry_ms))
        now_ms = 1000 * clock[0] + clock[1] / 1000
        return Leases(now_ms, tuple(leases), self._heartbeats_ms(group))

    def foreign_leases(self, group: str) -> list[str]:
        """Return what stands among the leases and is not an attempt of one of the group's tasks."""
        rows = self._scores(group, "leases")
        own = self._own_attempts(group, "lease", (attempt for attempt, _, _ in rows))
        return [attempt for attempt, _, _ in rows if attempt not in own]

    def holder(self, group: str, attempt: str) -> str | None:
        """Return the machine of the group that holds an attempt."""
        return self.holders(group, [attempt]).get(attempt)

    def holders(self, group: str, attempts: Iterable[str]) -> dict[str, str]:
        """Return attempt → the machine of the group that holds it, of some attempts."""
        names, keys = list(attempts), GroupKeys(group)
        pipe = self._servers.of(group).pipeline(transaction=False)
        for attempt in names:
            args: list[str | int] = [MAX_REDIS_NAME, "holder"]
            self._scripts["read_fields"](keys=[keys.lease(attempt)], args=args, client=pipe)
        with reading(group, "lease"):
            replies: Any = pipe.execute() if names else []
        texts = {a: r[0] for a, r in zip(names, replies, strict=True) if isinstance(r[0], str)}
        known = self._owned.machines(group, set(texts.values()) - {""})
        return {attempt: holder for attempt, holder in texts.items() if holder in known}

    def mpi_groups(self, group: str) -> dict[str, tuple[str, ...]]:
        """Return attempt → the machines that work on it together, the leader first."""
        most = _MOST_MEMBERS * (MAX_REDIS_NAME + 1)
        rows = {a: tuple(t.split(",")) for a, t in self._hash(group, "gangs", most).items()}
        if not rows:
            return {}
        own = self._own_attempts(group, "mpi_group", rows)
        held = {lease.attempt for lease in self.leases(group).all}
        known = self._owned.machines(group, {m for members in rows.values() for m in members})
        groups = {}
        for attempt, members in rows.items():
            if attempt in own and known.issuperset(members):
                if attempt in held:
                    groups[attempt] = members
            elif attempt in own:
                self.dropped.count(group, "mpi_group", members)
        return groups

    def prefetcher(self, group: str, attempt: str) -> str | None:
        """Return the machine that prefetches for a waiting attempt."""
        most = 2 * MAX_REDIS_NAME
        mark = self._fields(group, "staged", [attempt], most).get(attempt, "")
        expiry_ms, _, machine = mark.partition(":")
        is_valid = expiry_ms.isascii() and expiry_ms.isdigit() and len(expiry_ms) < 16
        if not is_valid or float(expiry_ms) <= 1000 * time.time():
            return None
        return machine if self._owned.machines(group, {machine}) else None

    def recorded(self, group: str) -> list[str]:
        """Return the attempts of which Redis still says what was recorded."""
        entries = self._hash(group, "recorded", 0)
        return sorted(self._own_attempts(group, "recorded", entries))

    def waiting(self, group: str, first: int, count: int) -> list[str]:
        """Return some of the queue, beginning at a rank: names only, which may be anything."""
        return [a for a, _, _ in self._scores(group, "queue", first=first, count=count)]

    def next_task(self, group: str) -> str | None:
        """Return the task whose attempt is next in line."""
        own = self._own_attempts(group, "queue", self.waiting(group, 0, 1))
        return next((parse_attempt(attempt)[0] for attempt in own), None)

    def queue_length(self, group: str) -> int:
        """Return how many attempts wait."""
        with reading(group, "queue"):
            length: Any = self._servers.of(group).zcard(GroupKeys(group).queue)
        return int(length)

    def position(self, group: str, attempt: str) -> int | None:
        """Return how many attempts are ahead of a waiting one; None when it does not wait."""
        with reading(group, "queue"):
            rank: Any = self._servers.of(group).zrank(GroupKeys(group).queue, attempt)
        return None if rank is None else int(rank)

    def known(self, group: str, attempts: Sequence[str]) -> list[tuple[bool, bool]]:
        """Return for each of some attempts whether it waits, and whether it is held."""
        if not attempts:
            return []
        keys, pipe = GroupKeys(group), self._servers.of(group).pipeline(transaction=False)
        pipe.zmscore(keys.queue, list(attempts))
        pipe.zmscore(keys.leases, list(attempts))
        with reading(group, "queue or leases"):
            queued, leased = pipe.execute()
        return [(q is not None, h is not None) for q, h in zip(queued, leased, strict=True)]

    def reports(
        self, client: redis.Redis, cursors: dict[str, str]
    ) -> tuple[dict[str, list[StreamEntry]], dict[str, str]]:
        """Return what each group's executors have reported after its cursor, in order.
        Returns group → its reports, where there are any; and group → how its stream is broken."""
        pipe = client.pipeline(transaction=False)
        args: list[str | int] = [BATCH, _BATCH_BYTES, "e", MAX_REPORT_BYTES]
        for group, cursor in cursors.items():
            key = GroupKeys(group).events
            self._scripts["read_stream"](keys=[key], args=[cursor, *args], client=pipe)
        replies = pipe.execute(raise_on_error=False) if cursors else []
        now = time.time()
        entries: dict[str, list[StreamEntry]] = {}
        broken: dict[str, str] = {}
        for group, reply in zip(cursors, replies, strict=True):
            if isinstance(reply, redis.RedisError) and (reason := broken_keys(reply)):
                broken[group] = f"events: {reason}"
            elif isinstance(reply, Exception):
                raise reply
            elif reply:
                entries[group] = [self._entry(group, entry, text, now) for entry, text in reply]
        return entries, broken

    def check(self, group: str) -> None:
        """Check that every key of the group has its type. Raises BrokenKeys: one is not."""
        fixed = GroupKeys(group).fixed()
        pipe = self._servers.of(group).pipeline(transaction=False)
        for key, _ in fixed.values():
            pipe.type(key)
        for (name, (_, expected)), kind in zip(fixed.items(), pipe.execute(), strict=True):
            if kind not in (expected, "none"):
                raise BrokenKeys(group, f"{name}: it is a {kind} where a {expected} belongs")

    def _entry(self, group: str, entry: str, text: str | None, now: float) -> StreamEntry:
        if text is None:
            detail = f"{entry}: not a report, or more than {MAX_REPORT_BYTES} bytes"
            self.dropped.count(group, "report", detail)
            return StreamEntry(entry, None)
        try:
            return StreamEntry(entry, parse_report(text, now))
        except InvalidMachineInput as error:
            self.dropped.count(group, error.reason, f"{entry}: {error}")
            return StreamEntry(entry, None)

    def _heartbeats_ms(self, group: str) -> dict[str, float]:
        rows = self._scores(group, "machines")
        known = self._owned.machines(group, {name for name, _, _ in rows})
        latest = 1000 * (time.time() + CLOCK_AHEAD_S)
        heartbeats = {}
        for name, ms, _ in rows:
            # A heartbeat of the far future would keep a dead machine alive.
            if name in known and ms <= latest:
                heartbeats[name] = ms
            else:
                self.dropped.count(group, "heartbeat", f"{name} {ms}")
        return heartbeats

    def _own_attempts(self, group: str, kind: str, names: Iterable[str]) -> set[str]:
        """Return those of some names that are attempts of the group's tasks."""
        tasks = {}
        for name in names:
            try:
                task, number = parse_attempt(name)
                is_name = number > 0 and attempt_key(task, number) == name
            except ValueError:
                is_name = False
            if is_name:
                tasks[name] = task
            else:
                self.dropped.count(group, kind, name)
        known = self._owned.tasks(group, set(tasks.values()))
        for name, task in tasks.items():
            if task not in known:
                self.dropped.count(group, kind, f"{name} is not a task of the group")
        return {name for name, task in tasks.items() if task in known}

    def _scores(
        self,
        group: str,
        what: str,
        *,
        first: int = 0,
        count: int = MAX_GROUP_ENTRIES,
        holders: str = "",
    ) -> list[tuple[str, float, str]]:
        """Return members, scores and holders of a sorted set. Raises BrokenKeys."""
        key, _ = GroupKeys(group).fixed()[what]
        args = [first, count, MAX_REDIS_NAME, holders]
        with reading(group, what):
            total, left, rows = self._run(group, "read_scores", key, args)
        if count == MAX_GROUP_ENTRIES and total > count:
            raise BrokenKeys(group, f"{what}: {total} entries, {count} are read at the most")
        self.dropped.count(group, what, "a name that is too long", number=left)
        entries = []
        for member, text, holder in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            score = float(text)
            if math.isfinite(score) and (what == "queue" or 0 <= score <= _LATEST_MS):
                entries.append((str(member), score, str(holder)))
            else:
                self.dropped.count(group, what, f"{member} {text}")
        return entries

    def _hash(self, group: str, what: str, most: int) -> dict[str, str]:
        """Return a hash whose fields machines choose. Raises BrokenKeys."""
        key, _ = GroupKeys(group).fixed()[what]
        args = [MAX_GROUP_ENTRIES, MAX_REDIS_NAME, most]
        with reading(group, what):
            total, left, rows = self._run(group, "read_hash", key, args)
        if total > MAX_GROUP_ENTRIES:
            most = MAX_GROUP_ENTRIES
            raise BrokenKeys(group, f"{what}: {total} entries, {most} are read at the most")
        self.dropped.count(group, what, "an entry that is too long", number=left)
        return dict(zip(rows[::2], rows[1::2], strict=True))

    def _fields(self, group: str, what: str, names: Sequence[str], most: int) -> dict[str, str]:
        """Return some fields of a hash. Raises BrokenKeys."""
        if not names:
            return {}
        key, _ = GroupKeys(group).fixed()[what]
        with reading(group, what):
            replies = self._run(group, "read_fields", key, [most, *names])
        too_long = sum(isinstance(reply, int) for reply in replies)
        self.dropped.count(group, what, f"a value of more than {most} bytes", number=too_long)
        return {n: r for n, r in zip(names, replies, strict=True) if isinstance(r, str)}

    def _run(self, group: str, name: str, key: str, args: list[Any]) -> Any:
        return self._scripts[name](keys=[key], args=args, client=self._servers.of(group))
