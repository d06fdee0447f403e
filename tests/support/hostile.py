"""Machines as tests need them: one that does its work, and one in a stranger's hands."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis

from executor.link.connection import Address
from executor.link.lease import Claimer, HeldLease, LeaseKeeper, new_token
from scheduler.queue.group_reader import MAX_REPORT_BYTES
from scheduler.services.machines.health import BAD_MACHINE_FAILURES
from simherd.contract.attempt_spec import parse_attempt
from simherd.contract.join import redis_user
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.reports import Report, ReportKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scheduler.store.models import MachineRow

#: What a machine reports of a task that goes well.
RUN: list[tuple[ReportKind, dict[str, Any]]] = [
    (ReportKind.STARTED, {"executer": {"vm_type": "local"}}),
    (ReportKind.COMPUTATION_STARTED, {}),
    (ReportKind.COMPUTATION_ENDED, {}),
    (ReportKind.FINISHED, {"cause": "completed", "exit_code": 0}),
]


def client_of(redis_url: str, machine: MachineRow, secret: str) -> redis.Redis:
    """Redis as a machine reaches it."""
    return redis.Redis.from_url(
        redis_url, username=redis_user(machine.id), password=secret, decode_responses=True
    )


class HonestMachine:
    """A machine that claims, reports and renews as an executor does, one step at a time."""

    def __init__(self, redis_url: str, machine: MachineRow, secret: str) -> None:
        where = Address(redis_url, redis_user(machine.id), lambda: secret)
        self.id, self.group = machine.id, machine.group_id
        self._claimer = Claimer(where, self.group, self.id)
        self._keeper = LeaseKeeper(where, self.group, self.id)
        self._client = client_of(redis_url, machine, secret)
        self._token, self.attempt, self.number = new_token(), "", 0

    def claim(self) -> str:
        """Claim an attempt, and hold it."""
        claimed = self._claimer.claim(self._token)
        assert claimed is not None
        self.attempt = claimed.attempt
        return claimed.attempt

    def report(self) -> None:
        """Report the next thing of `RUN`."""
        task, attempt = parse_attempt(self.attempt)
        kind, body = RUN[self.number]
        self.number += 1
        event = Report(kind, task, attempt, self.number, time.time(), self.id, body)
        self._client.xadd(GroupKeys(self.group).events, {"e": event.encode()})

    def beat(self) -> str:
        """Renew the lease; return what became of it."""
        held = HeldLease(self.attempt, self._token, self.number, self.number == len(RUN))
        (renewal,) = self._keeper.beat([held])
        with contextlib.suppress(redis.exceptions.OutOfMemoryError):
            self._keeper.publish_facts({"backend": "docker", "slots": 1})
        return renewal.state

    def close(self) -> None:
        """Let the connections go."""
        self._claimer.close()
        self._keeper.close()
        self._client.close()


@dataclass(frozen=True)
class Victim:
    """What a stranger knows of another tenant: everything but the credentials."""

    group: str
    machine: str
    task: str
    attempt: str


@dataclass(frozen=True)
class Stranger:
    """A thief with a machine's credentials and nothing to lose."""

    client: redis.Redis
    group: str
    machine: str
    #: Their own task, which waits in their own group, and makes others there.
    task: str
    more_tasks: Callable[[], str]

    @property
    def keys(self) -> GroupKeys:
        """The keys that the credentials are good for."""
        return GroupKeys(self.group)

    def forge(self, kind: ReportKind, task: str, number: int = 1, **more: Any) -> None:
        """Report something, as any machine, of any task."""
        fields = {"attempt": 1, "at": time.time(), "executor": self.machine, "body": {}, **more}
        event = Report(kind, task, number=number, **fields)
        self.client.xadd(self.keys.events, {"e": event.encode()})

    def lies(self, victim: Victim) -> Iterator[tuple[str, Callable[[], object]]]:
        """What may be written without breaking a key: a name and the act."""
        client, keys, group = self.client, self.keys, victim.group
        finished = {"cause": "machine_lost", "exit_code": 1}
        late, never = 1000 * (time.time() - 10_000), float("inf")

        def report_for_victim() -> None:
            for number, kind in enumerate((ReportKind.STARTED, ReportKind.FINISHED), 1):
                self.forge(kind, victim.task, number, executor=victim.machine, body=finished)

        def end_own_tasks_as_victim() -> None:
            # So many failures of different tasks in a row drain a machine.
            for _ in range(BAD_MACHINE_FAILURES):
                body = {"cause": "agent_error"}
                self.forge(
                    ReportKind.FINISHED, self.more_tasks(), executor=victim.machine, body=body
                )

        def forge_lease() -> None:
            client.zadd(keys.leases, {victim.attempt: late})
            client.hset(keys.lease(victim.attempt), "holder", victim.machine)
            client.hset(keys.lease(victim.attempt), "token", "x")

        def forge_gang() -> None:
            forge_lease()
            client.hset(GroupKeys(self.group).lease(victim.attempt), "holder", self.machine)

        def forge_beats() -> None:
            client.zadd(keys.machines, {victim.machine: late, self.machine: never, "?" * 9: 1})

        texts = [
            *("", "{", "null", "[]", '"x"', "NaN", "[" * 100_000, '{"protocol": 1}', "\x00"),
            json.dumps({"slots": "many", "draining": "no"}),
            '{"slots": 1e999, "cpu_percent": NaN}',
            json.dumps({"slots": 10**30, "reclaim_at": 1e308}),
            json.dumps({"backend": "x" * (2 * MAX_REPORT_BYTES)}),
        ]

        def garbage_facts() -> None:
            for number, text in enumerate(texts):
                client.hset(keys.facts, f"made-up-{number}", text)
                client.hset(keys.facts, self.machine, text)

        def garbage_reports() -> None:
            for text in texts:
                client.xadd(keys.events, {"e": text})
            client.xadd(keys.events, {"other": "field"})
            client.xadd(keys.events, {b"\xff\xfe": b"\xff"})
            client.xadd(keys.events, {"e": b"\xff\xfe\x00"})

        def absurd_reports() -> None:
            for at in (float("nan"), float("inf"), -1.0, 0.0, 1e308, 10.0**18):
                self.forge(ReportKind.STARTED, self.task, at=at)
            for number in (0, -1, 2**63, 10**30):
                self.forge(ReportKind.STARTED, self.task, number)
            for attempt in (0, -1, 2**63, 10**30):
                self.forge(ReportKind.STARTED, self.task, attempt=attempt)

        def absurd_bodies() -> None:
            bodies: list[tuple[ReportKind, dict[str, Any]]] = [
                (ReportKind.FINISHED, {"cause": "no such cause"}),
                (ReportKind.METRICS, {"metrics": {"computation_seconds": float("nan")}}),
                (ReportKind.METRICS, {"metrics": {"computation_seconds": {"deep": [[[]]]}}}),
                (ReportKind.USAGE, {"cpu_seconds": "much"}),
                (ReportKind.OPERATION_STARTED, {"id": "first", "name": [], "attributes": 1}),
                (ReportKind.OPERATION_ENDED, {"id": 10**30, "status": "OK", "attributes": {}}),
                (ReportKind.COMPUTATION_STARTED, {"deadline": 1e308, "money_until": float("inf")}),
                (ReportKind.OBSERVED, {"observer_id": "'; DROP TABLE tasks; --"}),
            ]
            for kind, body in bodies:
                self.forge(kind, self.task, body=body)

        def crooked_queue() -> None:
            client.zadd(keys.queue, {victim.attempt: -1e15, "no attempt": -1e15, "x:y": never})
            client.zadd(keys.queue, {b"\xff\x00:1": -1e15})

        def crooked_marks() -> None:
            client.hset(keys.staged, victim.attempt, f"9999999999999:{victim.machine}")
            client.hset(keys.staged, f"{self.task}:1", "soon:" + victim.machine)
            client.hset(keys.recorded, victim.attempt, "many")
            client.hset(keys.recorded, "x" * 5000, "1")
            client.hset(keys.overtaken, f"{self.task}:1", "often")
            client.hset(keys.claims, victim.machine, f"token {victim.attempt}")

        def odd_leases() -> None:
            client.zadd(keys.leases, {"no attempt": 1, f"{self.task}:1": never})
            client.zadd(keys.leases, {b"\xff:1": 1})
            client.zadd(keys.leases, {f"{victim.task}:{'9' * 400}": 1, f"{self.task}:-1": 1})
            client.set(keys.lease(f"{self.task}:1"), "not a hash")

        yield "report for another tenant's task", report_for_victim
        yield "fail one's own tasks in another machine's name", end_own_tasks_as_victim
        yield "a lease on another tenant's task", forge_lease
        yield "a lease on it, held by oneself", forge_gang
        yield "heartbeats of other machines, and of never", forge_beats
        yield "facts that are garbage", garbage_facts
        yield "reports that are garbage", garbage_reports
        yield "reports of absurd times and numbers", absurd_reports
        yield "reports with absurd bodies", absurd_bodies
        yield "attempts of others in the queue", crooked_queue
        yield "marks and answers for others", crooked_marks
        yield "leases that are none", odd_leases
        assert group != self.group

    def _not_a_number(self) -> None:
        self.client.hset(self.keys.fair, "waiting:u", "many")
        for number in range(10):
            self.client.hset(self.keys.fair, f"of:j{number}", "u")
            self.client.zadd(self.keys.queue, {f"j{number}": 1})

    def breaks(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """One key of a wrong type after another: its name, and the act."""
        client = self.client
        for name, (key, kind) in self.keys.fixed().items():
            if name == "place" or name in ("ready", "gangs"):
                continue  # not theirs to write

            def replace(key: str = key, kind: str = kind) -> None:
                client.delete(key)
                if kind == "hash":
                    client.zadd(key, {"x": 1})
                else:
                    client.hset(key, "x", "1")

            yield name, replace
        # What is not a number where the scheduler's scripts count.
        yield "fair", self._not_a_number
        # The largest id that there is: nothing comes after it.
        last = f"{2**64 - 1}-{2**64 - 1}"
        yield "events: the last id", lambda: client.xadd(self.keys.events, {"e": "{}"}, id=last)
