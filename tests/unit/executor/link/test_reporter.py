"""Reports: journalled first, sent in order, again when they seem lost, never after the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from executor.link import reporter as module
from executor.link.journal import Journal
from executor.link.lease import HeldLease
from executor.link.reporter import Reporter
from simherd.contract.reports import Report, ReportKind
from tests.support.redis_wire import RedisFault, ScriptedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[ScriptedRedis]:
    with ScriptedRedis(lambda _name, _args: "1-0") as scripted:
        yield scripted


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def reporter(server: ScriptedRedis, journal: Journal) -> Reporter:
    """One that does not send yet."""
    return Reporter(server.url, "g", "m1", journal)


def sent(server: ScriptedRedis) -> list[tuple[str, int, ReportKind]]:
    reports = [Report.decode(args[-1]) for args in server.sent("XADD")]
    return [(report.attempt_key, report.number, report.kind) for report in reports]


def run(reporter: Reporter) -> None:
    """Send what waits."""
    reporter.start()
    reporter.close()


def test_reports_are_numbered_for_each_attempt_and_sent_in_order(
    server: ScriptedRedis, reporter: Reporter
) -> None:
    for attempt in ("a:1", "b:1"):
        reporter.open(attempt, "token", "{}")
        reporter.report(attempt, ReportKind.STARTED)
    reporter.report("a:1", ReportKind.FINISHED, cause="completed")
    run(reporter)
    assert sent(server) == [
        ("a:1", 1, ReportKind.STARTED),
        ("b:1", 1, ReportKind.STARTED),
        ("a:1", 2, ReportKind.FINISHED),
    ]


def test_a_report_is_in_the_journal_before_it_is_sent(reporter: Reporter, journal: Journal) -> None:
    reporter.open("a:1", "token", "{}")
    reporter.report("a:1", ReportKind.METRICS, at=5.0, metrics={"x": 1})
    [entry] = journal.left_over()
    assert [(e.kind, e.at, e.body) for e in entry.events] == [
        (ReportKind.METRICS, 5.0, {"metrics": {"x": 1}})
    ]
    run(reporter)


def test_nothing_is_reported_after_the_end(server: ScriptedRedis, reporter: Reporter) -> None:
    reporter.open("a:1", "token", "{}")
    reporter.report("a:1", ReportKind.FINISHED)
    reporter.report("a:1", ReportKind.USAGE)
    run(reporter)
    assert sent(server) == [("a:1", 1, ReportKind.FINISHED)]


@pytest.mark.parametrize("forgets", [False, True])
def test_an_attempt_that_is_not_tracked_has_no_reports(
    server: ScriptedRedis, reporter: Reporter, journal: Journal, forgets: bool
) -> None:
    if forgets:
        reporter.open("a:1", "token", "{}")
        reporter.forget("a:1")
    reporter.report("a:1", ReportKind.STARTED)
    reporter.note("a:1", container="c")
    reporter.recorded("a:1", 3)
    reporter.forget("a:1")
    run(reporter)
    assert (sent(server), reporter.held(), journal.left_over()) == ([], [], [])


def test_an_adopted_attempt_sends_its_journal_again_and_counts_on(
    server: ScriptedRedis, reporter: Reporter, journal: Journal
) -> None:
    entry = journal.open("a:1", "token", "{}")
    journal.append(entry, Report(ReportKind.STARTED, "a", 1, 1, 0.0, "m1"))
    reporter.adopt(journal.left_over()[0])
    reporter.report("a:1", ReportKind.FINISHED)
    run(reporter)
    assert [number for _, number, _ in sent(server)] == [1, 2]


def test_a_heartbeat_presents_what_was_reported_last(reporter: Reporter) -> None:
    reporter.open("a:1", "token", "{}")
    assert reporter.held() == [HeldLease("a:1", "token", 0, ended=False)]
    reporter.report("a:1", ReportKind.STARTED)
    reporter.report("a:1", ReportKind.FINISHED)
    assert reporter.held() == [HeldLease("a:1", "token", 2, ended=True)]
    run(reporter)


@pytest.mark.parametrize(("recorded", "left"), [(0, 3), (1, 2), (3, 0)])
def test_unrecorded_reports_are_counted(reporter: Reporter, recorded: int, left: int) -> None:
    reporter.open("a:1", "token", "{}")
    for kind in (ReportKind.STARTED, ReportKind.METRICS, ReportKind.FINISHED):
        reporter.report("a:1", kind)
    reporter.recorded("a:1", recorded)
    assert reporter.unrecorded() == (1, left)
    run(reporter)


@pytest.mark.parametrize(
    ("passed_s", "recorded", "again"),
    [(0.0, 0, []), (11.0, 0, [1, 2]), (11.0, 1, [2]), (11.0, 2, []), (9.0, 0, [])],
)
def test_a_report_that_is_not_recorded_in_time_is_sent_again(
    server: ScriptedRedis,
    reporter: Reporter,
    monkeypatch: pytest.MonkeyPatch,
    passed_s: float,
    recorded: int,
    again: list[int],
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reporter.open("a:1", "token", "{}")
    reporter.report("a:1", ReportKind.STARTED)
    reporter.report("a:1", ReportKind.METRICS)
    now[0] += passed_s
    reporter.recorded("a:1", recorded)
    monkeypatch.undo()
    run(reporter)
    assert [number for _, number, _ in sent(server)] == [1, 2, *again]


def test_the_resend_delay_doubles_and_is_reset_by_progress(
    server: ScriptedRedis, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reporter.open("a:1", "token", "{}")
    for _ in range(2):
        reporter.report("a:1", ReportKind.METRICS)
    for passed_s, recorded in ((11, 0), (11, 0), (10, 0), (11, 1), (11, 1)):
        now[0] += passed_s
        reporter.recorded("a:1", recorded)
    monkeypatch.undo()
    run(reporter)
    assert [number for _, number, _ in sent(server)] == [1, 2, 1, 2, 1, 2, 2]


def test_notes_go_to_the_journal_alone(
    server: ScriptedRedis, reporter: Reporter, journal: Journal
) -> None:
    reporter.open("a:1", "token", "{}")
    reporter.note("a:1", upload="u1", stage="outputs")
    run(reporter)
    assert journal.left_over()[0].notes == {"upload": "u1", "stage": "outputs"}
    assert server.sent("XADD") == []


def test_a_report_that_redis_refuses_is_sent_again(
    server: ScriptedRedis, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.001)
    failures = [True, True]

    def reply(_name: str, _args: list[str]) -> Any:
        if failures:
            failures.pop()
            raise RedisFault("OOM command not allowed")
        return "1-0"

    server.reply = reply
    reporter.open("a:1", "token", "{}")
    reporter.report("a:1", ReportKind.STARTED)
    reporter.start()
    server.await_count("XADD", 3)
    reporter.close()
    assert {number for _, number, _ in sent(server)} == {1}
    assert not reporter.has_died
