"""A task's trace, told from SQL to a real collector; on both databases."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scheduler.services.tasks.kill import kill_task
from scheduler.services.tasks.submit import NewTask, submit_tasks
from simherd.contract.cause import Cause
from simherd.contract.lifecycle import Status
from simherd.contract.reports import ReportKind
from simherd.runtime.tracing import trace_id
from tests.integration.test_recorder import RUN, recorded
from tests.support.builders import make_group, make_task
from tests.support.collector import attributes, collector
from tests.support.runtime import (
    REPORTED_AT,
    machine_of,
    make_runtime,
    recording,
    report,
    waiting,
)
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scheduler.store.engine import Store
    from scheduler.wiring import Runtime
    from tests.support.collector import Received

UNSET, OK, ERROR = 0, 1, 2


@pytest.fixture
def collected() -> Iterator[Received]:
    with collector() as received:
        yield received


@pytest.fixture
def rt(
    database_url: str, store: Store, redis_url: str, tmp_path: Path, collected: Received
) -> Iterator[Runtime]:
    made = make_runtime(database_url, redis_url, tmp_path, otlp_endpoint=collected.url)[0]
    yield made
    made.close()


def run_twice(rt: Runtime) -> tuple[str, str]:
    """A task whose first machine stops, and whose second attempt succeeds; its group and id."""
    with rt.store.write() as session:
        task = make_task(session, make_group(session), resubmit=True)
    with recording(rt):
        for number, (kind, body) in enumerate(RUN[:3], 1):
            report(rt, task.group_id, task.id, 1, number, kind, **body)
        stopped = {"cause": Cause.AGENT_STOPPED.value}
        report(rt, task.group_id, task.id, 1, 4, ReportKind.FINISHED, **stopped)
        until(lambda: waiting(rt, task.group_id))
        for number, (kind, body) in enumerate(RUN, 11):
            report(rt, task.group_id, task.id, 2, number - 10, kind, **body)
        until(lambda: recorded(rt, task, 2) == len(RUN))
    return task.group_id, task.id


def test_two_attempts_are_one_trace(rt: Runtime, collected: Received) -> None:
    group, task = run_twice(rt)
    spans = until(lambda: collected.of(trace_id(task)), what="the trace")
    (root,) = [span for span in spans if not span.parent_span_id]
    assert (root.name, root.status.code) == ("task", OK)
    assert attributes(root)["attempts"] == 2
    told = [(event.name, attributes(event)["attempt"]) for event in root.events]
    assert told[-1] == ("success", 2)
    assert ("submitted", 2) in told
    first, second = sorted(
        (span for span in spans if span.name == "attempt"), key=lambda s: attributes(s)["attempt"]
    )
    assert {first.parent_span_id, second.parent_span_id} == {root.span_id}
    assert attributes(first)["cause"] == Cause.AGENT_STOPPED.value
    assert (first.status.code, second.status.code) == (ERROR, OK)
    assert first.status.message == "The executor was stopped before the task ended."
    for attempt, code in ((first, ERROR), (second, OK)):
        assert attributes(attempt)["machine"] == machine_of(group)
        assert attributes(attempt)["group"] == group
        (stage,) = [
            span
            for span in spans
            if span.name == "exec_command" and span.parent_span_id == attempt.span_id
        ]
        assert stage.status.code == code
        assert (stage.start_time_unix_nano, stage.end_time_unix_nano) == (
            1e9 * (REPORTED_AT + 3),
            1e9 * (REPORTED_AT + 4),
        )
        assert "command" not in attributes(stage)
        assert "queue wait" in {s.name for s in spans if s.parent_span_id == attempt.span_id}
    assert len({span.span_id for span in spans}) == len(spans)


def test_each_task_of_a_request_has_separate_urls(rt: Runtime, collected: Received) -> None:
    with rt.store.write() as session:
        group = make_group(session)
    commands = {"commands": [{"cmd": "true"}]}
    one = NewTask(
        group.id, "arbitrary_commands", None, "any", has_input=False, extra_params=commands
    )
    made = submit_tasks(rt, group.user_id, [one, one])
    for task in made:
        (span,) = until(lambda task=task: collected.of(trace_id(task.task_id)))  # type: ignore[misc]
        assert span.name == "submit"
    assert len(collected.spans) == 2


@pytest.mark.parametrize("waits_for", [Status.PENDING_INPUT, Status.SUBMITTED])
def test_the_span_of_a_task_that_never_ran_names_who_ended_it(
    rt: Runtime, collected: Received, waits_for: Status
) -> None:
    with rt.store.write() as session:
        group = make_group(session)
        attempt = int(waits_for is Status.SUBMITTED)
        task = make_task(session, group, status=waits_for.value, attempt=attempt)
    kill_task(rt, group.user_id, task.id)
    parts_of = {s.name: s for s in until(lambda: collected.of(trace_id(task.id)))}
    told = {"attempt", "queue wait"} if attempt else {"upload input"}
    assert parts_of.keys() == {"task", "record"} | told
    root = parts_of["task"]
    assert (root.status.code, attributes(root)["status"]) == (UNSET, Status.KILLED.value)
    assert parts_of["record"].parent_span_id == parts_of.get("attempt", root).span_id


def test_a_collector_that_takes_nothing_stops_nothing(
    rt: Runtime, collected: Received, caplog: pytest.LogCaptureFixture
) -> None:
    collected.code = 400
    run_twice(rt)
    until(lambda: "event=traces_lost" in caplog.text, what="the word that a trace is lost")
    collected.code = 200
    _, task = run_twice(rt)
    until(lambda: collected.of(trace_id(task)), what="the next trace")


WITHOUT = """
import importlib.abc, sys

class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        # FastAPI brings the API along.
        if name.startswith(("opentelemetry.exporter", "opentelemetry.sdk")):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
import scheduler.api.app, scheduler.recorder
from scheduler.__main__ import main
main()
"""


def test_without_the_extra_it_is_refused_and_nothing_else_needs_it(tmp_path: Path) -> None:
    settings = {
        "SIMHERD_DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}",
        "SIMHERD_REDIS_URL": "redis://127.0.0.1:9",
        "SIMHERD_BROKER_URL": "redis://127.0.0.1:9",
        "SIMHERD_SIGNING_KEY": "key",
    }

    def run(process: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **settings, **more}
        argv = [sys.executable, "-c", WITHOUT, process]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    refused = run("recorder", SIMHERD_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert refused.returncode == 2
    assert "SIMHERD_OTLP_ENDPOINT" in refused.stderr
    assert "pip install 'simherd[scheduler,otel]'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert run("migrate").returncode == 0
