"""The spans of a task that has ended, from its rows. On SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from scheduler.store.models import AttemptRow, StatusChange, TaskOperation
from scheduler.traces.spans import root, spans_of, submission
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import Status
from tests.support.builders import make_group, make_task
from tests.support.memory import memory_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from scheduler.store.models import TaskRow
    from scheduler.traces.spans import Span


@pytest.fixture
def session() -> Iterator[Session]:
    with memory_session() as session:
        yield session


def _ended(session: Session, status: Status = Status.SUCCESS, **fields: Any) -> TaskRow:
    task = make_task(
        session,
        make_group(session),
        status=status.value,
        create_time=100.0,
        end_time=200.0,
        **fields,
    )
    session.query(StatusChange).update({"at": 110.0})
    return task


def _spans(session: Session, task: TaskRow) -> dict[str, Span]:
    return {span.name: span for span in spans_of(session, task.id, 205.0)}


def test_a_submission_belongs_to_its_task_and_to_the_client_that_sent_it() -> None:
    span = submission("t1", 1.0, 2.0, "00-trace-span-01")
    assert (span.parent, span.start, span.end) == (root("t1"), 1.0, 2.0)
    assert span.caused_by == "00-trace-span-01"


def test_ids_are_the_same_in_every_process() -> None:
    assert submission("t1", 1.0, 2.0, None).id == submission("t1", 3.0, 4.0, None).id
    assert root("t1") != root("t2")


@pytest.mark.parametrize(
    ("status", "good"),
    [
        (Status.SUCCESS, True),
        (Status.FAILED, False),
        (Status.KILLED, None),
    ],
)
def test_a_task_went_well_failed_or_was_not_wanted(
    session: Session, status: Status, good: bool | None
) -> None:
    assert _spans(session, _ended(session, status))["task"].good is good


def test_the_whole_task_spans_all_others(session: Session) -> None:
    spans = _spans(session, _ended(session))
    whole = spans.pop("task")
    assert (whole.parent, whole.start, whole.end) == (None, 100.0, 205.0)
    assert all(whole.start <= s.start <= s.end <= whole.end for s in spans.values())


def test_every_change_of_status_is_a_moment(session: Session) -> None:
    (moment,) = _spans(session, _ended(session))["task"].moments
    assert (moment.name, moment.at) == (Status.SUCCESS.value, 110.0)
    assert moment.attributes == {"simherd.attempt": 1, "simherd.description": "made"}


def test_an_attempt_waits_until_it_is_claimed(session: Session) -> None:
    task = _ended(session)
    session.add(
        AttemptRow(
            task_id=task.id,
            attempt=1,
            started_at=120.0,
            ended_at=190.0,
            cause=Cause.COMPLETED.value,
            machine_id="m1",
            saved={},
            price_hour=0.0,
        )
    )
    spans = _spans(session, task)
    assert (spans["attempt"].start, spans["attempt"].end) == (110.0, 190.0)
    assert spans["attempt"].good is True
    assert spans["attempt"].attributes["simherd.machine"] == "m1"
    assert (spans["queue wait"].start, spans["queue wait"].end) == (110.0, 120.0)
    assert spans["queue wait"].parent == spans["record"].parent == spans["attempt"].id


def test_an_attempt_that_was_never_claimed_waits_until_the_end(session: Session) -> None:
    spans = _spans(session, _ended(session, Status.KILLED))
    assert (spans["queue wait"].start, spans["queue wait"].end) == (110.0, 200.0)
    assert spans["attempt"].good is None


@pytest.mark.parametrize(("ended_at", "end"), [(150.0, 150.0), (None, 200.0), (120.0, 130.0)])
def test_a_stage_ends_with_its_attempt_and_not_before_it_begins(
    session: Session, ended_at: float | None, end: float
) -> None:
    task = _ended(session)
    change = session.query(StatusChange).one()
    session.add(
        TaskOperation(
            task_id=task.id,
            attempt=1,
            number=1,
            status_change_id=change.id,
            name="fetch",
            status="OK",
            started_at=130.0,
            ended_at=ended_at,
            attributes={"bytes": 7, "command": "private", "nested": {}},
        )
    )
    stage = _spans(session, task)["fetch"]
    assert (stage.start, stage.end, stage.good) == (130.0, end, True)
    assert stage.attributes == {"simherd.task": task.id, "simherd.attempt": 1, "simherd.bytes": 7}


def test_a_wait_for_the_input_is_a_span(session: Session) -> None:
    task = _ended(session)
    session.query(StatusChange).update({"status": Status.PENDING_INPUT.value, "ended_at": 115.0})
    upload = _spans(session, task)["upload input"]
    assert (upload.start, upload.end, upload.parent) == (110.0, 115.0, root(task.id))


def test_a_task_that_never_was_queued_has_no_attempt(session: Session) -> None:
    spans = _spans(session, _ended(session, Status.KILLED, attempt=0))
    assert spans.keys() == {"task", "record"}
    assert spans["record"].parent == root(spans["task"].task_id)
