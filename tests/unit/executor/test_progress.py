"""Where an agent goes on with an attempt, for each place where an earlier one may have stopped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from executor.attempt.recovery import Progress, exit_attributes, progress_of
from executor.containers.base import Exit
from executor.link.journal import Journal
from simherd.contract.cause import Cause
from simherd.contract.reports import Report, ReportKind

if TYPE_CHECKING:
    from pathlib import Path

_ENDED = Exit(3, None, False, "It ended.")
#: All that an attempt with two commands reports.
_STORY: list[tuple[ReportKind, dict[str, Any]]] = [
    (ReportKind.STARTED, {}),
    (ReportKind.OPERATION_STARTED, {"id": 1, "name": "download_input"}),
    (ReportKind.OPERATION_ENDED, {"id": 1, "status": "OK", "attributes": {}}),
    (ReportKind.COMPUTATION_STARTED, {"deadline": 99.0}),
    (ReportKind.OPERATION_STARTED, {"id": 2, "name": "exec_command"}),
    (ReportKind.OPERATION_STARTED, {"id": 3, "name": "stall"}),
    (ReportKind.OPERATION_ENDED, {"id": 2, "status": "OK", "attributes": exit_attributes(Exit(0))}),
    (ReportKind.OPERATION_STARTED, {"id": 4, "name": "exec_command"}),
    (ReportKind.OPERATION_ENDED, {"id": 4, "status": "OK", "attributes": exit_attributes(_ENDED)}),
    (ReportKind.COMPUTATION_ENDED, {}),
    (ReportKind.OPERATION_STARTED, {"id": 5, "name": "upload_output"}),
    (ReportKind.OPERATION_ENDED, {"id": 5, "status": "OK", "attributes": {}}),
]


def _after(count: int, **notes: Any) -> Progress:
    events = [
        Report(kind, "t", 1, number, float(number), "m", body)
        for number, (kind, body) in enumerate(_STORY[:count], 1)
    ]
    return progress_of(events, notes)


def test_a_new_attempt_has_no_progress() -> None:
    assert _after(0) == Progress()


def test_an_interrupted_download_is_closed_and_started_again() -> None:
    progress = _after(2)
    assert (progress.started, progress.computing, progress.next_operation) == (True, False, 2)
    assert [(b.number, b.name) for b in progress.cut] == [(1, "download_input")]


def test_a_command_that_had_begun_continues() -> None:
    progress = _after(6)
    assert progress.command is not None
    assert (progress.command.number, progress.commands) == (2, 0)
    assert progress.deadline == 99.0
    assert [b.name for b in progress.cut] == ["stall"]


def test_a_command_that_has_ended_is_not_run_again() -> None:
    progress = _after(7)
    assert (progress.command, progress.commands, progress.last_exit) == (None, 1, Exit(0))


def test_how_the_last_command_ended_is_known() -> None:
    progress = _after(10)
    assert (progress.computed, progress.last_exit, progress.stored) == (True, _ENDED, False)


def test_an_upload_that_has_ended_is_not_repeated() -> None:
    assert not _after(11).stored
    assert _after(12).stored


def test_notes_tell_why_it_was_to_be_stopped_and_until_when() -> None:
    progress = _after(5, cause="killed_by_user", discard=True, deadline=120.0, upload="u")
    assert (progress.cause, progress.discard) == (Cause.KILLED_BY_USER, True)
    assert (progress.deadline, progress.upload) == (120.0, "u")


def test_the_journal_brings_back_events_and_notes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    entry = journal.open("t:1", "token", "spec")
    journal.append(entry, Report(ReportKind.STARTED, "t", 1, 1, 1.0, "m", {}))
    journal.note(entry, cause="killed_by_user")
    journal.note(entry, deadline=5.0)
    with entry.path.open("a") as file:
        file.write('{"torn')
    (found,) = Journal(tmp_path).left_over()
    assert found == entry
    assert found.notes == {"cause": "killed_by_user", "deadline": 5.0}
    assert entry.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("head", [{"attempt": "t:1", "token": "x"}])
def test_a_journal_of_an_earlier_release_can_be_read(tmp_path: Path, head: object) -> None:
    (tmp_path / "t-1.jsonl").write_text(json.dumps(head) + "\n")
    (found,) = Journal(tmp_path).left_over()
    assert (found.attempt, found.spec, found.boot) == ("t:1", "", "")
