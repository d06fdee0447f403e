"""Every Redis key of a machine group, under one hash tag so that groups can be sharded."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "simherd"

#: A stream of its own that wakes the recorder when a machine group appears.
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


@dataclass(frozen=True)
class GroupKeys:
    """The keys of the machine group with the id `group`."""

    group: str

    def _key(self, name: str) -> str:
        return f"{PREFIX}:{{{self.group}}}:{name}"

    @property
    def queue(self) -> str:
        """Sorted set: waiting attempt → order."""
        return self._key("queue")

    @property
    def specs(self) -> str:
        """Hash: waiting or held attempt → what a claim hands over (JSON)."""
        return self._key("specs")

    @property
    def leases(self) -> str:
        """Sorted set: held attempt → lease expiry, ms."""
        return self._key("leases")

    @property
    def machines(self) -> str:
        """Sorted set: executor → last heartbeat, ms."""
        return self._key("machines")

    @property
    def facts(self) -> str:
        """Hash: executor → what it tells of its machine (JSON)."""
        return self._key("facts")

    @property
    def staged(self) -> str:
        """Hash: waiting attempt → `expiry ms:executor` of who fetches for it ahead."""
        return self._key("staged")

    @property
    def overtaken(self) -> str:
        """Hash: waiting attempt → how often one that was staged went before it."""
        return self._key("overtaken")

    @property
    def fair(self) -> str:
        """Hash: what makes users of a shared group take turns, see `enqueue.lua`."""
        return self._key("fair")

    @property
    def ready(self) -> str:
        """Sorted set: executor of a group whose machines work together, and that is free → when it
        last said so, ms."""
        return self._key("ready")

    @property
    def gangs(self) -> str:
        """Hash: held attempt of such a group → its executors, commas between, the leader first."""
        return self._key("gangs")

    @property
    def place(self) -> str:
        """Hash: how far the scheduler is with comparing queue and SQL."""
        return self._key("place")

    @property
    def recorded(self) -> str:
        """Hash: attempt → number of its last event that stands in SQL."""
        return self._key("recorded")

    @property
    def events(self) -> str:
        """Stream: everything that executors report."""
        return self._key("events")

    @property
    def bell(self) -> str:
        """List: wakes one idle slot per arrival."""
        return self._key("bell")

    @property
    def claims(self) -> str:
        """Hash: executor → `token attempt` of its last claim, the memory of answered claims.

        Schedulers of release 0.1 let machines use keys of this prefix.
        """
        return self.old_claim_prefix + "last"

    @property
    def nothing(self) -> str:
        """A key that is never made, see `unlimited.lua`."""
        return self._key("nothing")

    @property
    def lease_prefix(self) -> str:
        """Start of the hashes `lease:ATTEMPT` (holder, token)."""
        return self._key("lease:")

    @property
    def old_claim_prefix(self) -> str:
        """Start of the strings in which agents of release 0.1 keep their claims; 0.3 drops it."""
        return self._key("claimed:")

    @property
    def every(self) -> str:
        """Pattern of every key of the group."""
        return self._key("*")

    def fixed(self) -> dict[str, tuple[str, str]]:
        """The keys that there is one of: short name → key and Redis type."""
        return {
            "queue": (self.queue, "zset"),
            "leases": (self.leases, "zset"),
            "machines": (self.machines, "zset"),
            "ready": (self.ready, "zset"),
            "specs": (self.specs, "hash"),
            "facts": (self.facts, "hash"),
            "staged": (self.staged, "hash"),
            "overtaken": (self.overtaken, "hash"),
            "fair": (self.fair, "hash"),
            "gangs": (self.gangs, "hash"),
            "claims": (self.claims, "hash"),
            "recorded": (self.recorded, "hash"),
            "place": (self.place, "hash"),
            "events": (self.events, "stream"),
            "bell": (self.bell, "list"),
        }

    def of_claim(self) -> tuple[str, ...]:
        """The keys with which every claim begins, see `take.lua`."""
        first = (self.queue, self.specs, self.leases, self.bell)
        return (*first, self.staged, self.overtaken, self.machines, self.fair, self.claims)

    def lease(self, attempt: str) -> str:
        """Hash: holder and token of one lease."""
        return self.lease_prefix + attempt

    def inbox(self, executor: str) -> str:
        """Stream: what the scheduler tells one executor."""
        return self._key(f"inbox:{executor}")

    def live(self, request: str) -> str:
        """Stream: the answer to one question about live files, while somebody reads it."""
        return self._key(f"live:{request}")

    def of_executor(self, executor: str, *, gangs: bool = False) -> tuple[str, ...]:
        """Patterns of the keys that an executor of the group works with.

        `gangs`: its machines work together, and so they write to one another.
        """
        shared = (self.queue, self.specs, self.leases, self.machines, self.facts, self.staged)
        more = (self.overtaken, self.recorded, self.events, self.bell, self.fair, self.claims)
        prefixes = (self.lease_prefix, self.old_claim_prefix, self._key("live:"))
        own = (self.ready, self.gangs, self.inbox("*")) if gangs else (self.inbox(executor),)
        return (*shared, *more, *(f"{p}*" for p in prefixes), *own)


def group_of(key: str) -> str | None:
    """The machine group that a key belongs to, None where it is of no group."""
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
