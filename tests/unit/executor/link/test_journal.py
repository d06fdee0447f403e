"""What a later agent finds of an attempt, also after a write that was cut."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from executor.link.journal import Journal, JournalEntry, boot_id
from simherd.contract.reports import Report, ReportKind

if TYPE_CHECKING:
    from pathlib import Path


def report(number: int, kind: ReportKind = ReportKind.METRICS) -> Report:
    return Report(kind, "task", 1, number, float(number), "m1")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def opened(journal: Journal) -> JournalEntry:
    return journal.open("task:1", "secret", '{"a": 1}')


def test_a_journal_is_found_again_as_it_was(journal: Journal) -> None:
    entry = opened(journal)
    journal.append(entry, report(1))
    journal.note(entry, container="c1")
    journal.append(entry, report(2))
    [again] = journal.left_over()
    assert again == entry
    assert (again.token, again.spec, again.boot) == ("secret", '{"a": 1}', boot_id())
    assert (again.last, again.ended) == (2, False)


def test_the_secret_is_not_for_others_to_read(journal: Journal, tmp_path: Path) -> None:
    assert opened(journal).path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "journal").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("kinds", "ended"),
    [
        ([], False),
        ([ReportKind.STARTED], False),
        ([ReportKind.STARTED, ReportKind.FINISHED], True),
    ],
)
def test_an_attempt_has_ended_with_its_last_report(
    journal: Journal, kinds: list[ReportKind], ended: bool
) -> None:
    entry = opened(journal)
    for number, kind in enumerate(kinds, 1):
        journal.append(entry, report(number, kind))
    assert journal.left_over()[0].ended is ended
    assert journal.left_over()[0].last == len(kinds)


def test_a_later_note_replaces_an_earlier_one(journal: Journal) -> None:
    entry = opened(journal)
    journal.note(entry, stage="inputs", upload="u")
    journal.note(entry, stage="outputs")
    assert journal.left_over()[0].notes == {"stage": "outputs", "upload": "u"}


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_that_was_cut_is_as_if_never_written(journal: Journal, cut: int) -> None:
    entry = opened(journal)
    journal.append(entry, report(1))
    journal.append(entry, report(2))
    data = entry.path.read_bytes()
    entry.path.write_bytes(data[:-cut])
    assert journal.left_over()[0].last == 1


def test_a_journal_without_its_first_line_is_removed(journal: Journal) -> None:
    path = opened(journal).path
    path.write_text('{"attempt": "task:1", "tok')
    assert journal.left_over() == []
    assert not path.exists()


def test_a_journal_of_an_earlier_release_has_neither_spec_nor_boot(journal: Journal) -> None:
    path = opened(journal).path
    path.write_text(json.dumps({"attempt": "task:1", "token": "t"}) + "\n")
    [entry] = journal.left_over()
    assert (entry.spec, entry.boot) == ("", "")


def test_forgetting_twice_does_no_harm(journal: Journal) -> None:
    entry = opened(journal)
    journal.forget(entry)
    journal.forget(entry)
    assert journal.left_over() == []
