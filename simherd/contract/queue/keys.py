"""Every Redis key of a machine group, under one hash tag so that groups can be sharded."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "simherd"

#: A stream that wakes the recorder when a machine group appears.
GROUPS_CHANGED = f"{PREFIX}:groups-changed"
#: Set when the scheduler fills an empty Redis: its absence means that everything was lost.
EPOCH = f"{PREFIX}:epoch"
#: The run of the Redis server that knows every machine's user.
ACCESS = f"{PREFIX}:access"
#: Written and read to see whether that works.
READY = f"{PREFIX}:ready"
#: A key that is never made, see `unlimited.lua`.
NOTHING = f"{PREFIX}:nothing"
#: A channel: ids of tasks whose status has changed (JSON).
CHANGES = f"{PREFIX}:changes"
#: How far apart in the queue two priorities are: more than there will be attempts.
PRIORITY_BAND = 2**40


class _Key:
    """A key that every group has one of, with its Redis type."""

    def __init__(self, name: str, kind: str = "") -> None:
        self.name, self.kind = name, kind

    def __get__(self, keys: GroupKeys, owner: type[GroupKeys]) -> str:
        return keys.named(self.name)


@dataclass(frozen=True)
class GroupKeys:
    """The keys of the machine group with the id `group`."""

    group: str

    #: Waiting attempt → order.
    queue = _Key("queue", "zset")
    #: Held attempt → lease expiry, ms.
    leases = _Key("leases", "zset")
    #: Executor → last heartbeat, ms.
    machines = _Key("machines", "zset")
    #: Executor of an MPI group that is free → when it last claimed, ms.
    ready = _Key("ready", "zset")
    #: Waiting or held attempt → what a claim hands over (JSON).
    specs = _Key("specs", "hash")
    #: Executor → what it reports about its machine (JSON).
    facts = _Key("facts", "hash")
    #: Waiting attempt → `expiry ms:executor` of the one that prefetches for it.
    staged = _Key("staged", "hash")
    #: Waiting attempt → how often a prefetched one went before it.
    overtaken = _Key("overtaken", "hash")
    #: Turns of the users of a shared group, see `enqueue.lua`.
    fair = _Key("fair", "hash")
    #: Held attempt of an MPI group → its executors, commas between, the leader first.
    gangs = _Key("gangs", "hash")
    #: Executor → `token attempt` of its last claim. Schedulers of release 0.1 let machines use keys
    #: of this prefix.
    claims = _Key("claimed:last", "hash")
    #: Attempt → number of its last report that is in SQL.
    recorded = _Key("recorded", "hash")
    #: How far the scheduler has compared the queue with SQL.
    place = _Key("place", "hash")
    #: Everything that executors report.
    events = _Key("events", "stream")
    #: Wakes one idle slot per arrival.
    bell = _Key("bell", "list")
    #: A key that is never made, see `unlimited.lua`.
    nothing = _Key("nothing")
    #: Start of the hashes `lease:ATTEMPT` (holder, token).
    lease_prefix = _Key("lease:")
    #: Start of the strings in which agents of release 0.1 keep their claims; 0.3 drops it.
    old_claim_prefix = _Key("claimed:")
    #: Pattern of every key of the group.
    every = _Key("*")

    def named(self, name: str) -> str:
        """Return the key with a short name."""
        return f"{PREFIX}:{{{self.group}}}:{name}"

    def fixed(self) -> dict[str, tuple[str, str]]:
        """Return short name → key and Redis type, of the keys of which there is one."""
        keys = vars(type(self)).items()
        return {n: (self.named(k.name), k.kind) for n, k in keys if isinstance(k, _Key) and k.kind}

    def of_claim(self) -> tuple[str, ...]:
        """Return the keys with which every claim begins, see `take.lua`."""
        first = (self.queue, self.specs, self.leases, self.bell)
        return (*first, self.staged, self.overtaken, self.machines, self.fair, self.claims)

    def lease(self, attempt: str) -> str:
        """Return the hash of one lease: holder and token."""
        return self.lease_prefix + attempt

    def inbox(self, executor: str) -> str:
        """Return the stream of orders for one executor."""
        return self.named(f"inbox:{executor}")

    def live(self, request: str) -> str:
        """Return the stream of the reply to one request about live files."""
        return self.named(f"live:{request}")

    def of_executor(self, executor: str, *, gangs: bool = False) -> tuple[str, ...]:
        """Return patterns of the keys that an executor of the group uses. `gangs`: its machines
        form MPI groups, and so they write to one another."""
        shared = (self.queue, self.specs, self.leases, self.machines, self.facts, self.staged)
        more = (self.overtaken, self.recorded, self.events, self.bell, self.fair, self.claims)
        prefixes = (self.lease_prefix, self.old_claim_prefix, self.named("live:"))
        own = (self.ready, self.gangs, self.inbox("*")) if gangs else (self.inbox(executor),)
        return (*shared, *more, *(f"{p}*" for p in prefixes), *own)


def group_of(key: str) -> str | None:
    """Return the machine group of a key; None where it belongs to none."""
    start = f"{PREFIX}:{{"
    if not key.startswith(start):
        return None
    group, brace, _ = key.removeprefix(start).partition("}:")
    return group if brace else None


@dataclass(frozen=True)
class MailboxKeys:
    """The keys of one client's mailbox for one task's data channels; see `scheduler/bridge`."""

    task: str
    client: str

    def _key(self, name: str) -> str:
        return f"{PREFIX}:bridge:{{{self.task}:{self.client}}}:{name}"

    @property
    def registered(self) -> str:
        """String: the client has registered."""
        return self._key("registered")

    @property
    def messages(self) -> str:
        """List: what waits for the client, the oldest first (JSON)."""
        return self._key("messages")
