"""A group's queue and an executor's connections to it, in memory."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import redis

from simherd.contract.attempt_spec import parse_attempt
from simherd.contract.queue.scripts import Claimed, Renewal
from simherd.contract.reports import Report, ReportKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from executor.link.lease import HeldLease
    from simherd.contract.inbox import Message


class FakeReports:
    """Keeps reports and notes as the journal does. See `Reports`."""

    def __init__(self) -> None:
        self.sent: list[Report] = []
        self.notes: dict[str, dict[str, Any]] = defaultdict(dict)
        #: Called with each report, before it is kept: raises where an agent is to break down.
        self.on_report: Callable[[ReportKind, dict[str, Any]], None] | None = None
        self._lock = threading.Lock()

    def report(self, attempt: str, kind: ReportKind, at: float | None = None, **body: Any) -> None:
        if self.on_report is not None:
            self.on_report(kind, body)
        with self._lock:
            earlier = self.of(attempt)
            if earlier and earlier[-1].kind is ReportKind.FINISHED:
                return
            task_id, number = parse_attempt(attempt)
            moment = float(len(earlier) + 1) if at is None else at
            self.sent.append(
                Report(kind, task_id, number, len(earlier) + 1, moment, "machine", body)
            )

    def note(self, attempt: str, **notes: Any) -> None:
        with self._lock:
            self.notes[attempt] |= notes

    def of(self, attempt: str) -> list[Report]:
        """What was reported of an attempt, in order."""
        return [report for report in self.sent if report.attempt_key == attempt]

    def kinds(self, attempt: str) -> list[ReportKind]:
        """The kinds of what was reported of an attempt, in order."""
        return [report.kind for report in self.of(attempt)]

    def operations(self, attempt: str) -> list[tuple[str, str]]:
        """Name and status of the operations that ended, in the order of their ends."""
        names: dict[int, str] = {}
        ended = []
        for report in self.of(attempt):
            if report.kind is ReportKind.OPERATION_STARTED:
                names[report.body["id"]] = report.body["name"]
            elif report.kind is ReportKind.OPERATION_ENDED:
                ended.append((names[report.body["id"]], report.body["status"]))
        return ended


@dataclass
class FakeQueue:
    """One group's waiting attempts, their leases and the machines' inboxes."""

    waiting: list[Claimed] = field(default_factory=list)
    #: Attempt → executor and token.
    leases: dict[str, tuple[str, str]] = field(default_factory=dict)
    specs: dict[str, str] = field(default_factory=dict)
    staged: dict[str, str] = field(default_factory=dict)
    #: Attempt → number of the last report that stands in SQL.
    recorded: dict[str, int] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    gangs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    beats: dict[str, float] = field(default_factory=dict)
    sent: list[tuple[str, Message]] = field(default_factory=list)
    is_down: bool = False
    bell: threading.Event = field(default_factory=threading.Event)

    def enqueue(self, attempt: str, spec: str = "") -> None:
        """Let an attempt wait, and ring the bell."""
        self.waiting.append(Claimed(attempt, spec))
        self.bell.set()

    def check(self) -> None:
        """Raise what a Redis that is down raises."""
        if self.is_down:
            raise redis.ConnectionError("Redis is down")


class FakeClaimer:
    """See `Claimer`."""

    def __init__(self, queue: FakeQueue, executor: str = "m1") -> None:
        self._queue, self._executor = queue, executor

    def claim(self, token: str, staged: str = "") -> Claimed | None:
        queue = self._queue
        queue.check()
        for attempt, lease in queue.leases.items():
            if lease == (self._executor, token):
                return Claimed(attempt, queue.specs[attempt])
        first = next((c for c in queue.waiting if c.attempt == staged), None)
        claimed = first or next(
            (c for c in queue.waiting if queue.staged.get(c.attempt) in (None, self._executor)),
            queue.waiting[0] if queue.waiting else None,
        )
        if claimed is None:
            return None
        queue.waiting.remove(claimed)
        queue.staged.pop(claimed.attempt, None)
        queue.leases[claimed.attempt] = (self._executor, token)
        queue.specs[claimed.attempt] = claimed.spec
        return claimed

    def wait_for_bell(self, wait_s: float) -> bool:
        rang = self._queue.bell.wait(wait_s)
        self._queue.bell.clear()
        return rang and bool(self._queue.waiting)

    def interrupt(self) -> None:
        self._queue.bell.set()

    def close(self) -> None:
        return None


class FakeLeaseKeeper:
    """See `LeaseKeeper`."""

    def __init__(self, queue: FakeQueue, executor: str = "m1") -> None:
        self._queue, self._executor = queue, executor

    def beat(self, held: Iterable[HeldLease]) -> list[Renewal]:
        queue = self._queue
        queue.check()
        queue.beats[self._executor] = queue.beats.get(self._executor, 0.0) + 1
        return [self._renew(lease) for lease in held]

    def _renew(self, lease: HeldLease) -> Renewal:
        queue = self._queue
        recorded = queue.recorded.get(lease.attempt, 0)
        if lease.ended and recorded >= lease.last_event:
            queue.leases.pop(lease.attempt, None)
            return Renewal(lease.attempt, "recorded", recorded)
        # A lease that the queue has forgotten is given back to the executor that presents it.
        mine = (self._executor, lease.token)
        if queue.leases.setdefault(lease.attempt, mine)[1] != lease.token:
            return Renewal(lease.attempt, "lost", recorded)
        return Renewal(lease.attempt, "held", recorded)

    def stage(self, staged: str = "") -> Literal["kept"] | Claimed | None:
        queue = self._queue
        queue.check()
        if staged and any(c.attempt == staged for c in queue.waiting):
            queue.staged[staged] = self._executor
            return "kept"
        for claimed in queue.waiting:
            if claimed.attempt not in queue.staged:
                queue.staged[claimed.attempt] = self._executor
                return claimed
        return None

    def unstage(self, staged: str) -> None:
        self._queue.check()
        self._queue.staged.pop(staged, None)

    def publish_facts(self, facts: dict[str, Any]) -> None:
        self._queue.check()
        self._queue.facts[self._executor] = facts

    def close(self) -> None:
        return None


class FakeInbox:
    """See `Inbox`: a message is handled as soon as it is delivered."""

    has_died = False

    def __init__(self, handle: Callable[[Message], None]) -> None:
        self.deliver = handle

    def start(self) -> None:
        return None

    def close(self) -> None:
        return None


class FakeGangLink:
    """See `GangLink`."""

    def __init__(self, queue: FakeQueue, executor: str = "m1") -> None:
        self._queue, self.executor = queue, executor

    def send(self, executor: str, message: Message) -> None:
        self._queue.check()
        self._queue.sent.append((executor, message))

    def members(self, attempt: str) -> tuple[str, ...]:
        self._queue.check()
        return self._queue.gangs.get(attempt, ()) if attempt in self._queue.leases else ()

    def gangs(self) -> dict[str, tuple[str, ...]]:
        self._queue.check()
        return dict(self._queue.gangs)

    def spec(self, attempt: str) -> str:
        return self._queue.specs.get(attempt, "")

    def keep(self, attempt: str, members: tuple[str, ...]) -> None:
        self._queue.check()
        self._queue.gangs[attempt] = members

    def disband(self, attempt: str) -> None:
        self._queue.gangs.pop(attempt, None)

    def beats(self, executors: tuple[str, ...]) -> dict[str, float]:
        self._queue.check()
        return {name: self._queue.beats.get(name, 0.0) for name in executors}

    def close(self) -> None:
        return None
