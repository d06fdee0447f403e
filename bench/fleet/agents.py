"""Executors in one process: each with its own user and a connection that listens to its inbox, its
claims, heartbeats and reports. What they compute is waiting."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio

from bench.fleet.rows import SECRET
from executor.link.lease import BELL_WAIT_S, MAX_OVERTAKEN
from simherd.contract import limits
from simherd.contract.attempt_spec import parse_attempt
from simherd.contract.cause import Cause
from simherd.contract.join import redis_user
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import PRIORITY_BAND, GroupKeys
from simherd.contract.reports import Report, ReportKind

if TYPE_CHECKING:
    from bench.fleet.rows import Group

#: Connections over which the executors of a server claim and report, instead of some each.
_SHARED = 48
#: Seconds that a read of an inbox waits.
_INBOX_S = 25.0


@dataclass
class Figures:
    """What the executors have seen; seconds."""

    claims: list[float] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    #: Attempts that were claimed: none is to be there twice.
    attempts: Counter[str] = field(default_factory=Counter)


class Agents:
    """All executors of all groups."""

    def __init__(self, urls: dict[str, str], groups: list[Group], mean_task_s: float) -> None:
        self.figures = Figures()
        self._urls, self._groups, self._mean_task_s = urls, groups, mean_task_s
        self._shared = {name: _client(url, _SHARED) for name, url in urls.items()}
        self._scripts = {
            name: {n: c.register_script(scripts.source(n)) for n in ("claim", "renew")}
            for name, c in self._shared.items()
        }

    def start(self) -> None:
        """Work from now on, as long as this process lives."""
        self._running = [
            asyncio.create_task(self._agent(group, machine))
            for group in self._groups
            for machine in group.machines
        ]

    async def _agent(self, group: Group, machine: str) -> None:
        one = _Agent(self, group, machine)
        # Not all at the same moment: real ones have not been started together either.
        await asyncio.sleep(random.uniform(0, limits.HEARTBEAT_S))
        async with asyncio.TaskGroup() as parts:
            parts.create_task(one.listen(self._urls[group.server]))
            parts.create_task(one.beat())
            parts.create_task(one.work())

    async def call(self, group: Group, script: str, keys: list[str], args: list[Any]) -> Any:
        """Run a script, again and again while Redis is unavailable."""
        while True:
            try:
                return await self._scripts[group.server][script](keys=keys, args=args)
            except redis.RedisError as error:
                self.figures.counts[f"{script}: {type(error).__name__}"] += 1
                await asyncio.sleep(1)

    async def report(self, group: Group, events: list[Report]) -> None:
        """Append reports."""
        pipe = self._shared[group.server].pipeline(transaction=False)
        for event in events:
            pipe.xadd(GroupKeys(group.id).events, {"e": event.encode()})
        await pipe.execute()
        self.figures.counts["reports"] += len(events)

    def task_seconds(self) -> float:
        """How long one task computes."""
        return random.uniform(0.5, 1.5) * self._mean_task_s


class _Agent:
    """One executor with one slot."""

    def __init__(self, agents: Agents, group: Group, machine: str) -> None:
        self._agents, self._group, self._machine = agents, group, machine
        self._keys = GroupKeys(group.id)
        self._held: list[Any] = []
        self._recorded = asyncio.Event()

    async def listen(self, url: str) -> None:
        """Hold the connection that every executor has: its own user, waiting for its inbox."""
        user = redis_user(self._machine)
        client = redis.asyncio.Redis.from_url(
            url, username=user, password=SECRET, socket_timeout=_INBOX_S + 5
        )
        after: Any = "0-0"
        while True:
            try:
                found: Any = await client.xread(
                    {self._keys.inbox(self._machine): after}, block=int(_INBOX_S * 1000)
                )
            except redis.RedisError as error:
                self._agents.figures.counts[f"inbox: {type(error).__name__}"] += 1
                await asyncio.sleep(5)
                continue
            for _, entries in found or []:
                after = entries[-1][0]
                self._agents.figures.counts["orders"] += len(entries)

    async def beat(self) -> None:
        """Renew the lease every few seconds, as a heartbeat does."""
        figures = self._agents.figures
        while True:
            began = time.monotonic()
            rows = await self._agents.call(
                self._group, "renew", *renewal(self._keys, self._machine, self._held)
            )
            figures.beats.append(time.monotonic() - began)
            for renewed in scripts.renew_reply(rows):
                figures.counts[renewed.state] += 1
                if renewed.state != "held":
                    self._held = []
                    self._recorded.set()
            await asyncio.sleep(max(0.1, limits.HEARTBEAT_S - (time.monotonic() - began)))

    async def work(self) -> None:
        """Claim, compute, report, again and again."""
        figures = self._agents.figures
        while True:
            token, began = secrets.token_hex(16), time.monotonic()
            claimed = scripts.claim_reply(
                await self._agents.call(
                    self._group, "claim", *claim(self._keys, self._machine, token)
                )
            )
            if claimed is None:
                await asyncio.sleep(BELL_WAIT_S)
                continue
            figures.claims.append(time.monotonic() - began)
            figures.attempts[claimed.attempt] += 1
            await self._carry_out(claimed.attempt, token)

    async def _carry_out(self, attempt: str, token: str) -> None:
        self._recorded.clear()
        self._held = [attempt, token, 0, "0"]
        reports = events(attempt, self._machine)
        await self._agents.report(self._group, reports[:_BEFORE])
        await asyncio.sleep(self._agents.task_seconds())
        reports = events(attempt, self._machine)
        await self._agents.report(self._group, reports[_BEFORE:])
        self._held = [attempt, token, len(reports), "1"]
        # The next one is claimed at once: the lease goes with the heartbeat that says it is
        # recorded, as a real executor's does.
        await self._recorded.wait()


def claim(keys: GroupKeys, machine: str, token: str) -> tuple[list[str], list[Any]]:
    """Keys and arguments with which a machine claims."""
    lease_ms = int(limits.LEASE_S * 1000)
    arguments = [keys.lease_prefix, machine, token, lease_ms, PRIORITY_BAND, ""]
    return list(keys.of_claim()), [*arguments, MAX_OVERTAKEN]


def renewal(keys: GroupKeys, machine: str, held: list[Any]) -> tuple[list[str], list[Any]]:
    """Keys and arguments of a heartbeat; `held`: attempt, token, last report, whether over."""
    places = [keys.leases, keys.machines, keys.recorded, keys.specs]
    return places, [keys.lease_prefix, machine, int(limits.LEASE_S * 1000), *held]


def events(attempt: str, machine: str) -> list[Report]:
    """All that an executor reports of an attempt."""
    task_id, number = parse_attempt(attempt)
    now = time.time()
    return [
        Report(kind, task_id, number, place, now, machine, body)
        for place, (kind, body) in enumerate(_RUN, 1)
    ]


#: What an executor reports of a task with one command.
_RUN: list[tuple[ReportKind, dict[str, Any]]] = [
    (ReportKind.STARTED, {"executer": {"vm_type": "bench"}}),
    (ReportKind.COMPUTATION_STARTED, {}),
    (
        ReportKind.OPERATION_STARTED,
        {"id": 1, "name": "exec_command", "attributes": {"command": "x"}},
    ),
    (ReportKind.METRICS, {"metrics": {"download_input": 0.1}}),
    (ReportKind.OPERATION_ENDED, {"id": 1, "status": "OK", "attributes": {"exit_code": 0}}),
    (ReportKind.COMPUTATION_ENDED, {}),
    (ReportKind.METRICS, {"metrics": {"output_size_bytes": 7}}),
    (ReportKind.FINISHED, {"cause": Cause.COMPLETED.value, "exit_code": 0}),
]
#: How many of these it reports before it computes.
_BEFORE = 4


def _client(url: str, connections: int) -> redis.asyncio.Redis:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url, max_connections=connections, timeout=60, decode_responses=True
    )
    return redis.asyncio.Redis(connection_pool=pool)
