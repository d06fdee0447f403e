"""Files that observers wait for are found where they are plain files, and nowhere else."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from executor.attempt import file_observers, regex_pool
from executor.attempt.file_observers import FileObservers
from executor.attempt.regex_pool import NoTime, RegexPool, TooHard, TookTooLong
from simherd.contract.notifications import Observer
from simherd.contract.typed_json import from_json
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from simherd.contract.reports import ReportKind

#: Backtracks for ages.
EVIL = r"^(a+)+$"
EVIL_LINE = "a" * 40 + "!"


class Attempt:
    """What observers need of an attempt: a work folder, and where reports go."""

    def __init__(self, work: Path, *wanted: Observer) -> None:
        self.work = work
        self.spec = SimpleNamespace(key="t:1", observers=wanted)
        self.switch = SimpleNamespace(cause=None)
        self.reports: list[dict[str, Any]] = []

    def report(self, _kind: ReportKind, **body: Any) -> None:
        """Keep it."""
        self.reports.append(body)


def observing(attempt: Attempt) -> FileObservers:
    made: Any = attempt
    return FileObservers(made)


def found_in(work: Path, path: str, regex: str | None = None) -> list[dict[str, Any]]:
    """What is reported when the commands end at once."""
    attempt = Attempt(work, Observer("o", path, regex))
    with observing(attempt):
        pass
    return attempt.reports


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_observers, "_LOOK_S", 0.02)
    monkeypatch.setattr(file_observers, "_PAUSE_SHARE", 1)
    monkeypatch.setattr(file_observers, "_LAST_S", 60)


@pytest.fixture
def matcher() -> Iterator[RegexPool]:
    made = RegexPool()
    yield made
    made.close()


def test_nothing_runs_where_there_is_nothing_to_look_for(tmp_path: Path) -> None:
    before = threading.active_count()
    with observing(Attempt(tmp_path)):
        assert threading.active_count() == before


def test_a_file_is_reported_once_when_it_is_there(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, Observer("o", "sub/out.txt"))
    with observing(attempt) as looking:
        looking.add([Observer("o", "sub/out.txt")])
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "out.txt").touch()
        until(lambda: attempt.reports)
        looking.add([Observer("o", "sub/out.txt"), Observer("p", "sub/out.txt")])
        until(lambda: len(attempt.reports) == 2)
    assert [r["observer_id"] for r in attempt.reports] == ["o", "p"]
    assert attempt.reports[0]["captured"] is None


def test_links_pipes_and_folders_are_not_files(tmp_path: Path) -> None:
    outside, work = tmp_path / "outside", tmp_path / "work"
    for folder in (outside, work):
        folder.mkdir()
    (outside / "secret.txt").write_text("secret\n")
    (work / "link.txt").symlink_to(outside / "secret.txt")
    (work / "folder").symlink_to(outside)
    os.mkfifo(work / "pipe")
    (work / "real").mkdir()
    for path in ("link.txt", "folder/secret.txt", "pipe", "real", "none", "none/none"):
        assert found_in(work, path) == []
        assert found_in(work, path, "secret") == []


def test_groups_are_captured_by_number_and_name(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("start\nstep 12: residual 0.5\nstep 13: residual 0.4")
    (report,) = found_in(tmp_path, "log", r"step (\d+): (?P<what>\w+) (x)?")
    assert report["captured"] == {
        "match": "step 12: residual ",
        "groups": ["12", "residual", None],
        "named": {"what": "residual"},
    }
    # The last line counts though nothing ends it.
    assert found_in(tmp_path, "log", "^step 13: residual 0.4$")
    assert found_in(tmp_path, "log", "step 14") == []
    # Not across lines.
    assert found_in(tmp_path, "log", r"start\nstep") == []


def test_a_growing_file_is_read_on_and_a_new_one_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    attempt = Attempt(tmp_path, *(Observer(n, "log", f"^line {n}$") for n in "1234"))
    with observing(attempt), log.open("w") as file:
        for number in (1, 2):
            # In two pieces: a line is looked at when it is whole.
            file.write("line ")
            file.flush()
            file.write(f"{number}\n")
            file.flush()
            until(lambda: [r["observer_id"] for r in attempt.reports][-1:] == [str(number)])  # noqa: B023
        file.truncate(0)
        file.seek(0)
        file.write("line 3\n")
        file.flush()
        until(lambda: len(attempt.reports) == 3)
        (tmp_path / "new").write_text("line 4\n" + "x" * 100)
        (tmp_path / "new").rename(log)
        until(lambda: len(attempt.reports) == 4)


def test_bytes_and_long_lines_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\xff\x00" * 10 + b"y" * 3_000_000 + b"\nneedle\r\n")
    assert found_in(tmp_path, "log", "^needle$")
    (tmp_path / "log").write_text("z" * 3_000_000)
    assert len(found_in(tmp_path, "log", "z+")[0]["captured"]["match"]) == 500


def test_a_pattern_that_takes_too_long_is_given_up_and_the_others_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex_pool, "_MATCH_S", 0.2)
    (tmp_path / "log").write_text(f"{EVIL_LINE}\ngood\n")
    attempt = Attempt(tmp_path, Observer("evil", "log", EVIL), Observer("good", "log", "good"))
    with observing(attempt):
        until(lambda: len(attempt.reports) == 2)
    told = {report["observer_id"]: report for report in attempt.reports}
    assert "took more than" in told["evil"]["trouble"]
    assert told["good"]["captured"]["match"] == "good"


def test_a_pattern_does_not_get_the_machines_memory(matcher: RegexPool) -> None:
    with pytest.raises(TooHard):
        matcher.look("(?:" + "(?:x|)" * 60 + "){65535}y", "x" * 100_000)
    assert matcher.look("b", "a\nb") is not None


def test_an_attempt_that_is_stopped_is_not_held_up(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"{EVIL_LINE}\n" * 10)
    attempt = Attempt(tmp_path, *(Observer(str(n), "log", EVIL) for n in range(50)))
    attempt.switch.cause = "killed"
    with observing(attempt):
        pass
    # Each of them takes a second: there was no time to judge any, and that is told.
    assert [report["missed"] for report in attempt.reports] == [420] * 50


def test_a_machine_that_pauses_is_not_the_patterns_fault(
    matcher: RegexPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex_pool, "_MATCH_S", 0.1)
    assert matcher.look("a", "b") is None
    assert matcher._process is not None
    paused = matcher._process.pid
    os.kill(paused, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, (paused, signal.SIGCONT)).start()
    # More than a pipe holds: it is not read before the process goes on.
    assert matcher.look("b", ("a" * 999 + "\n") * 200 + "b") is not None
    assert matcher._process.pid == paused


def test_a_pattern_that_is_given_up_leaves_no_answer_for_the_next(matcher: RegexPool) -> None:
    with pytest.raises(NoTime):
        matcher.look(EVIL, EVIL_LINE, lambda: matcher._process is not None)
    assert matcher.look("b", "ab") == {"match": "b", "groups": [], "named": {}}


def test_a_pattern_that_is_late_twice_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex_pool, "_MATCH_S", 0.05)
    log = tmp_path / "log"
    log.write_text(f"{EVIL_LINE}\n")
    attempt = Attempt(tmp_path, Observer("o", "log", EVIL))
    with observing(attempt) as looking:
        judge, late = looking._matcher.look, 0

        def look(*asked: Any) -> Any:
            nonlocal late
            try:
                return judge(*asked)
            except TookTooLong:
                late += 1
                if late == 2:
                    log.write_text("aa\n")
                raise

        monkeypatch.setattr(looking._matcher, "look", look)
        until(lambda: attempt.reports)
    assert late == 2
    assert attempt.reports[0]["captured"]["match"] == "aa"


def test_one_look_continues_while_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_observers, "_LOOK_S", 1.0)
    monkeypatch.setattr(file_observers, "_BYTES", 10)
    # A piece a second would take minutes.
    (tmp_path / "log").write_text("a line\n" * 200 + "needle\n")
    attempt = Attempt(tmp_path, Observer("o", "log", "needle"))
    with observing(attempt):
        until(lambda: attempt.reports)
    assert attempt.reports[0]["captured"]["match"] == "needle"


def test_at_the_end_all_is_looked_at_that_there_is_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_observers, "_BYTES", 1000)
    (tmp_path / "log").write_text("a line\n" * 5000 + "needle")
    assert found_in(tmp_path, "log", "needle")[0]["captured"]["match"] == "needle"
    monkeypatch.setattr(file_observers, "_LAST_S", -1.0)
    (report,) = found_in(tmp_path, "log", "needle")
    assert report["missed"] == 35_006
    assert "the last 35006 bytes of 'log'" in report["trouble"]
    # Whether a file is there takes no time.
    assert found_in(tmp_path, "log")[0]["captured"] is None


def test_an_unexpected_error_does_not_stop_the_other_observers(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    path: Any = 7
    attempt = Attempt(tmp_path, Observer("odd", path), Observer("good", "log"))
    with observing(attempt) as looking:
        until(lambda: len(attempt.reports) == 2)
        looking.add([Observer("later", "log")])
        until(lambda: len(attempt.reports) == 3)
    told = {report["observer_id"]: report for report in attempt.reports}
    assert "its log has the cause" in told["odd"]["trouble"]
    assert "captured" in told["good"]


def test_what_a_later_scheduler_says_besides_is_left_out() -> None:
    observer = Observer("o", "log", "x")
    assert from_json(Observer, {**asdict(observer), "flags": ["i"]}) == observer
    assert from_json(Observer, {"id": "o", "path": "log"}) == Observer("o", "log")
