"""What a whole Simherd writes down: every line of every process an object, every task a trace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from simherd.contract.lifecycle import Status
from simherd.runtime.tracing import trace_id
from tests.support.collector import attributes, collector
from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.collector import Received

pytestmark = pytest.mark.slow

#: As W3C Trace Context writes who asks.
CALLER, CALLING = "ab" * 16, "cd" * 8
STAGES = ["download_container", "download_input", "uncompress_input", "exec_command"]
STAGES += ["compress_output", "upload_output"]


@pytest.fixture(scope="module")
def collected() -> Iterator[Received]:
    with collector() as received:
        yield received


@pytest.fixture(scope="module")
def traced_env(tmp_path_factory: pytest.TempPathFactory, collected: Received) -> Iterator[Env]:
    made = Env(
        tmp_path_factory.mktemp("traced_env"),
        *("--backend", "process"),
        SIMHERD_SWEEP_S="1",
        SIMHERD_LOG_FORMAT="json",
        SIMHERD_OTLP_ENDPOINT=collected.url,
    )
    made.start()
    yield made
    made.stop()


def logs_of(env: Env) -> dict[str, list[dict[str, Any]]]:
    """The lines of each process; each must be an object."""
    files: list[Path] = [*(env.data / "logs").glob("*.log")]
    files += (env.data / "machines").glob("*/agent.log")
    return {
        # But for the last one while it is being written.
        file.stem: [json.loads(line) for line in file.read_text().split("\n")[:-1]]
        for file in files
        if file.stem != "redis"
    }


def test_one_trace_from_the_submission_to_the_outputs(traced_env: Env, collected: Received) -> None:
    traced_env.api.headers["traceparent"] = f"00-{CALLER}-{CALLING}-01"
    task = traced_env.submit("sh -c 'exit 3'")
    found = traced_env.wait(task)
    assert found["status"] == Status.FAILED
    until(lambda: len(collected.of(trace_id(task))) == 6 + len(STAGES), what="the whole trace")
    spans = {span.name: span for span in collected.of(trace_id(task))}
    root, attempt = spans["task"], spans["attempt"]
    for name in ("submit", "upload input", "attempt"):
        assert spans[name].parent_span_id == root.span_id
    for name in ("queue wait", *STAGES, "record"):
        assert spans[name].parent_span_id == attempt.span_id
        assert attributes(spans[name])["attempt"] == 1
    for name, span in spans.items():
        begun, ended = span.start_time_unix_nano, span.end_time_unix_nano
        assert root.start_time_unix_nano <= begun <= ended <= root.end_time_unix_nano, name
    order = ["upload input", "queue wait", "download_input", "exec_command", "upload_output"]
    begins = [spans[name].start_time_unix_nano for name in order]
    assert begins == sorted(begins)
    assert (root.status.code, attempt.status.code) == (2, 2)
    assert attributes(root)["exit_code"] == attributes(spans["exec_command"])["exit_code"] == 3
    statuses = [entry["status"] for entry in found["status_history"]]
    assert [event.name for event in root.events] == statuses
    (link,) = spans["submit"].links
    assert (link.trace_id.hex(), link.span_id.hex()) == (CALLER, CALLING)


def test_everything_that_is_said_about_a_task_names_it(traced_env: Env) -> None:
    task = traced_env.submit("true")
    traced_env.wait(task)

    def log_lines() -> list[dict[str, Any]]:
        return [
            line for log in logs_of(traced_env).values() for line in log if line.get("task") == task
        ]

    # The recorder speaks when its transaction is over, and the executor when it was answered.
    last_words = {("recorder", "task_ended"), ("executor", "attempt_ended")}
    until(
        lambda: last_words <= {(line["process"], line.get("event")) for line in log_lines()},
        what="the last words about the task",
    )
    lines = log_lines()
    assert {line["process"] for line in lines} == {"api", "recorder", "executor"}
    assert {line["trace_id"] for line in lines} == {trace_id(task)}
    events = {(line["process"], line["event"]) for line in lines}
    assert ("api", "submitted") in events
    of_executor = [line for line in lines if line["process"] == "executor"]
    assert all(line["attempt"] == 1 and line["machine"] and line["group"] for line in of_executor)
    requests = [line for line in lines if line["event"] == "request"]
    assert {"/tasks/submit", "/tasks/{task_id}/input_uploaded"} <= {r["route"] for r in requests}
    assert all(request["request_id"] for request in requests)


def test_every_line_of_every_process_is_an_object_without_secrets(traced_env: Env) -> None:
    hostile = "x\u2028%0a%1b[2J"
    assert traced_env.api.get(f"/tasks/{hostile}").status_code == 404
    assert (
        httpx.get(
            f"{traced_env.url}/tasks?key={traced_env.key}", trust_env=False, timeout=60
        ).status_code
        == 401
    )
    traced_env.stop()  # their last words included
    found = logs_of(traced_env)
    assert {"api", "worker", "recorder", "agent"} == set(found)
    said = {line["process"] for log in found.values() for line in log}
    assert said == {"api", "worker", "recorder", "executor"}
    refused = [line for line in found["api"] if line.get("status") == 404]
    assert refused[-1]["route"] == "/tasks/{task_id}"
    assert refused[-1]["user"]
    text = json.dumps(found)
    secrets = [traced_env.key, *(f.read_text() for f in (traced_env.data / "run").glob("*_*"))]
    assert len(secrets) >= 4
    assert not [secret for secret in secrets if secret in text]
    assert "signature=" not in text
