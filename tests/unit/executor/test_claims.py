"""Claiming and prefetching, over a queue in memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import redis

from executor.agent import claim_loop
from executor.agent.claim_loop import ClaimLoop
from executor.agent.heartbeat import Heartbeat
from executor.agent.prefetch import HeldReports
from executor.agent.prefetcher import Prefetcher
from executor.link.lease import HeldLease
from executor.machine.slots import Slot, Slots
from executor.machine.volumes import DiskError
from simherd.contract.cause import Cause
from simherd.contract.reports import ReportKind
from tests.support.fakes.attempt import KEY, Lab, spec_of
from tests.support.fakes.link import FakeClaimer, FakeLeaseKeeper, FakeQueue, FakeReports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from executor.agent.prefetch import Prefetch
    from executor.attempt.context import Attempt, Reports
    from simherd.contract.attempt_spec import AttemptSpec
    from simherd.contract.queue.scripts import Claimed


class Bench:
    """A claim loop, and an agent that drains when it has begun so many attempts."""

    def __init__(self, folder: Path, slots: int = 1, most: int = 1) -> None:
        self.queue = FakeQueue()
        self.slots = Slots(slots)
        self.draining = threading.Event()
        self.machine = SimpleNamespace(waits_for=lambda *, has_place=False: None)
        self.interruption = SimpleNamespace(may_claim=True)
        self.lab = Lab(folder)
        self.made: list[Attempt] = []
        self.make_error: Exception | None = None
        self.prefetcher = Prefetcher(FakeLeaseKeeper(self.queue), self.make)  # type: ignore[arg-type]
        self.claimer = FakeClaimer(self.queue)
        self.begun: list[tuple[str, bool]] = []
        self.can_begin = True
        self.live = 0
        self.most = most

    def make(self, spec: AttemptSpec, reports: Reports) -> Attempt:
        if self.make_error is not None:
            raise self.make_error
        self.lab.spec, self.lab.reports = spec, reports  # type: ignore[assignment]
        self.lab.slots = Slots(1)
        self.made.append(self.lab.attempt())
        return self.made[-1]

    def number(self) -> int:
        return self.live

    def begin(self, claimed: Claimed, token: str, prefetch: Prefetch | None) -> bool:
        self.begun.append((claimed.attempt, prefetch is not None))
        assert self.queue.leases[claimed.attempt] == ("m1", token)
        if len(self.begun) >= self.most:
            self.draining.set()
            self.slots.wake()
        return self.can_begin

    def run(self) -> None:
        loop = ClaimLoop(
            slots=self.slots,
            claimer=self.claimer,  # type: ignore[arg-type]
            prefetcher=self.prefetcher,
            machine=self.machine,  # type: ignore[arg-type]
            interruption=self.interruption,  # type: ignore[arg-type]
            draining=self.draining,
        )
        loop.run(self)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.prefetcher.close()


def test_a_waiting_attempt_is_begun(bench: Bench) -> None:
    bench.queue.enqueue("a:1")
    bench.run()
    assert bench.begun == [("a:1", False)]
    assert bench.slots.all_taken


def test_every_free_slot_gets_an_attempt(tmp_path: Path) -> None:
    bench = Bench(tmp_path, slots=3, most=3)
    for name in "abcd":
        bench.queue.enqueue(f"{name}:1")
    bench.run()
    assert [attempt for attempt, _ in bench.begun] == ["a:1", "b:1", "c:1"]
    assert [claimed.attempt for claimed in bench.queue.waiting] == ["d:1"]


def test_a_slot_is_given_back_if_the_attempt_cannot_begin(bench: Bench) -> None:
    bench.can_begin = False
    bench.queue.enqueue("a:1")
    bench.run()
    assert not bench.slots.all_taken


def test_nothing_is_claimed_while_draining(bench: Bench) -> None:
    bench.queue.enqueue("a:1")
    bench.draining.set()
    bench.run()
    assert bench.begun == []
    assert not bench.slots.all_taken


@pytest.mark.parametrize("obstacle", ["reclaim", "uploads"])
def test_nothing_is_claimed_while_the_machine_is_not_ready(bench: Bench, obstacle: str) -> None:
    bench.queue.enqueue("a:1")
    bench.interruption.may_claim = obstacle != "reclaim"
    bench.live = 3 if obstacle == "uploads" else 2
    thread = threading.Thread(target=bench.run)
    thread.start()
    bench.slots.wake()
    assert bench.begun == []
    bench.interruption.may_claim, bench.live = True, 2
    bench.slots.wake()
    thread.join(10)
    assert bench.begun == [("a:1", False)]


def test_without_room_nothing_is_claimed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_loop, "_ROOM_S", 0)
    bench.queue.enqueue("a:1")
    reasons = iter(["a full disk", "a full disk", None])
    bench.machine.waits_for = lambda *, has_place=False: next(reasons)
    bench.run()
    assert bench.begun == [("a:1", False)]
    assert next(reasons, "all were asked for") == "all were asked for"


def test_claims_resume_after_redis_was_unavailable(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_loop, "_RETRY_S", 0)
    bench.queue.enqueue("a:1")
    claims, claim, tokens = iter([True, True, False]), bench.claimer.claim, []

    def flaky(token: str, staged: str = "") -> Any:
        tokens.append(token)
        if next(claims):
            raise redis.ConnectionError("Redis is down")
        return claim(token, staged)

    monkeypatch.setattr(bench.claimer, "claim", flaky)
    bench.run()
    assert bench.begun == [("a:1", False)]
    # The same token: had the first claim arrived, its attempt would be returned again.
    assert len(set(tokens)) == 1


@pytest.mark.parametrize("error", [OSError("closed"), ValueError("closed")])
@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_broken_connection_ends_the_loop_unless_it_was_interrupted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, is_interrupted: bool
) -> None:
    def fail(wait_s: float) -> bool:
        if is_interrupted:
            bench.draining.set()
        raise error

    monkeypatch.setattr(bench.claimer, "wait_for_bell", fail)
    if is_interrupted:
        bench.run()
    else:
        with pytest.raises(type(error)):
            bench.run()
    assert not bench.slots.all_taken


def enqueue(bench: Bench, key: str = KEY) -> None:
    task_id, _, number = key.partition(":")
    spec = replace(spec_of(), task_id=task_id, attempt=int(number))
    bench.queue.enqueue(key, spec.encode())


def settle(bench: Bench) -> None:
    """Wait until the prefetch has ended."""
    attempt = bench.prefetcher.attempt
    assert attempt is not None
    for thread in threading.enumerate():
        if thread.name == f"prefetch-{attempt.spec.key}":
            thread.join()


def test_a_prefetched_attempt_is_claimed_with_its_files(bench: Bench) -> None:
    enqueue(bench)
    bench.prefetcher.update(wanted=True)
    settle(bench)
    bench.run()
    assert bench.begun == [(KEY, True)]
    assert (bench.made[0].work / "case").read_text() == "1"


def test_a_prefetch_that_is_not_wanted_any_more_is_kept_while_it_waits(bench: Bench) -> None:
    enqueue(bench)
    bench.prefetcher.update(wanted=True)
    bench.prefetcher.update(wanted=False)
    assert bench.prefetcher.attempt is not None
    assert len(bench.made) == 1


@pytest.mark.parametrize("waits", [False, True])
def test_nothing_is_prefetched_unless_it_is_wanted(bench: Bench, waits: bool) -> None:
    if waits:
        enqueue(bench)
    bench.prefetcher.update(wanted=not waits)
    assert bench.prefetcher.attempt is None
    assert bench.queue.staged == {}


def test_a_prefetch_is_dropped_when_another_machine_claims_it(bench: Bench) -> None:
    enqueue(bench)
    bench.prefetcher.update(wanted=True)
    settle(bench)
    FakeClaimer(bench.queue, "m2").claim("token")
    bench.prefetcher.update(wanted=True)
    assert bench.prefetcher.attempt is None
    assert bench.made[0].switch.cause is Cause.LEASE_LOST
    assert not bench.made[0].folder.exists()


def test_a_failed_prefetch_is_fetched_again_after_the_claim(bench: Bench) -> None:
    enqueue(bench)
    bench.lab.storage.refused["input.zip"] = 404
    bench.prefetcher.update(wanted=True)
    settle(bench)
    bench.run()
    assert bench.begun == [(KEY, False)]
    assert not bench.made[0].folder.exists()


def test_a_failed_prefetch_is_tried_again(bench: Bench) -> None:
    enqueue(bench)
    bench.lab.storage.refused["input.zip"] = 404
    bench.prefetcher.update(wanted=True)
    settle(bench)
    bench.prefetcher.update(wanted=False)
    assert bench.prefetcher.attempt is None


@pytest.mark.parametrize("error", [ValueError("bad"), DiskError("full")])
def test_a_prefetch_that_cannot_begin_is_left(bench: Bench, error: Exception) -> None:
    enqueue(bench)
    bench.make_error = error
    bench.prefetcher.update(wanted=True)
    assert bench.prefetcher.attempt is None


@pytest.mark.parametrize(("key", "is_dropped"), [(None, True), (KEY, True), ("other:1", False)])
def test_a_drop_names_its_attempt(bench: Bench, key: str | None, is_dropped: bool) -> None:
    enqueue(bench)
    bench.prefetcher.update(wanted=True)
    bench.queue.is_down = True
    bench.prefetcher.drop(key)
    bench.queue.is_down = False
    assert (bench.prefetcher.attempt is None) is is_dropped


def test_a_taken_prefetch_reports_its_start_first(bench: Bench) -> None:
    enqueue(bench)
    bench.prefetcher.update(wanted=True)
    settle(bench)
    _, prefetch = bench.prefetcher.claim(bench.claimer, "token")  # type: ignore[arg-type]
    assert prefetch is not None
    reports = FakeReports()
    attempt = prefetch.take(spec_of(run_dir="new"), reports)
    assert attempt.spec.run_dir == "new"
    assert attempt.state.started_at is not None
    assert reports.kinds(KEY)[:2] == [ReportKind.STARTED, ReportKind.OPERATION_STARTED]
    attempt.note(upload="u1")
    assert reports.notes[KEY] == {"upload": "u1"}


def test_held_reports_keep_their_order_and_times() -> None:
    held, reports = HeldReports(), FakeReports()
    held.note(KEY, lost=True)
    held.report(KEY, ReportKind.METRICS, 5.0, number=1)
    held.report(KEY, ReportKind.METRICS, 6.0, number=2)
    held.bind(reports)
    held.report(KEY, ReportKind.METRICS, 7.0, number=3)
    assert [(r.at, r.body["number"]) for r in reports.sent] == [(5.0, 1), (6.0, 2), (7.0, 3)]
    assert reports.notes == {}


def test_slots_wait_until_they_are_free_and_ready() -> None:
    slots = Slots(1)
    assert slots.take(lambda: True, lambda: True)
    assert slots.all_taken
    slot = Slot(slots)
    slot.give()
    slot.give()
    assert not slots.all_taken
    assert not slots.take(lambda: False, lambda: True)
    slots.take_now()
    slots.take_now()
    slots.give()
    assert slots.all_taken


class Held:
    """A reporter that holds one lease."""

    def __init__(self, *leases: HeldLease) -> None:
        self.leases = leases
        self.forgotten: list[str] = []
        self.known: list[tuple[str, int]] = []

    def held(self) -> tuple[HeldLease, ...]:
        return self.leases

    def forget(self, attempt: str) -> None:
        self.forgotten.append(attempt)

    def recorded(self, attempt: str, number: int) -> None:
        self.known.append((attempt, number))


def beat_of(queue: FakeQueue, reporter: Held) -> tuple[Heartbeat, list[str]]:
    events: list[str] = []
    heartbeat = Heartbeat(
        keeper=FakeLeaseKeeper(queue),  # type: ignore[arg-type]
        reporter=reporter,  # type: ignore[arg-type]
        guard=SimpleNamespace(record_contact=lambda: events.append("contact")),  # type: ignore[arg-type]
        on_lost=lambda key: events.append(f"lost {key}"),
        machine_info=lambda: {"draining": False},
        prefetch=lambda: events.append("prefetch"),
    )
    return heartbeat, events


def test_a_heartbeat_learns_the_state_of_each_lease() -> None:
    queue = FakeQueue(
        leases={"a:1": ("m1", "t"), "b:1": ("m2", "x"), "c:1": ("m1", "t")},
        recorded={"a:1": 2, "c:1": 7},
    )
    reporter = Held(
        HeldLease("a:1", "t", 3, ended=False),
        HeldLease("b:1", "t", 1, ended=False),
        HeldLease("c:1", "t", 7, ended=True),
    )
    heartbeat, events = beat_of(queue, reporter)
    heartbeat.beat()
    assert events == ["contact", "lost b:1", "prefetch"]
    assert reporter.known == [("a:1", 2)]
    assert reporter.forgotten == ["c:1"]
    assert queue.facts["m1"] == {"draining": False}


def test_a_heartbeat_that_fails_is_no_contact() -> None:
    heartbeat, events = beat_of(FakeQueue(is_down=True), Held())
    with pytest.raises(redis.ConnectionError):
        heartbeat.beat()
    assert events == []


@pytest.mark.parametrize("is_down", [False, True])
def test_a_heartbeat_beats_once_more_at_the_end(is_down: bool) -> None:
    queue = FakeQueue(is_down=is_down)
    heartbeat, _ = beat_of(queue, Held())
    heartbeat.start()
    heartbeat.beat_soon()
    heartbeat.close()
    assert ("m1" in queue.beats) is not is_down
