"""What Prometheus reads of a running system, and what health checks do."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from scheduler.metrics import table
from simherd.runtime.health import LIVE, METRICS, READY
from simherd.runtime.metric_table import MetricKind
from tests.support.measures import measures
from tests.support.waits import until
from tests.unit.test_metrics import names_in_use

if TYPE_CHECKING:
    from prometheus_client import Metric

    from tests.support.env import Env

#: What only some deployments, or only some moments, have.
_SELDOM = frozenset(
    {
        "simherd_executor_reclaim_left_seconds",
        # From the first sweep after the grace period on.
        "simherd_redis_data_age_seconds",
    }
)


def _machines_of(group: str, env: Env) -> set[str]:
    found = env.api.get(f"/compute/group/{group}")
    return {m["uuid"] for m in found.json()["machines"]} if found.is_success else set()


def _file(env: Env, machine: str) -> Path:
    return env.data / "machines" / f"metrics-{machine}.json"


def addresses(env: Env) -> dict[str, str]:
    """Process → where it serves its health and metrics; executors are numbered.

    Of the machines, those of this module alone: those of other tests come and go.
    """
    machines = _machines_of("local", env) | _machines_of("measured", env)
    files = (*env.data.glob("run/metrics-*.json"), *(_file(env, m) for m in machines))
    found: dict[str, str] = {}
    for file in filter(Path.exists, files):
        (entry,) = json.loads(file.read_text())
        process, (target,) = entry["labels"]["process"], entry["targets"]
        found[f"executor {len(found)}" if process == "executor" else process] = f"http://{target}"
    return found


def scraped(env: Env) -> dict[str, dict[str, Metric]]:
    """Process → name → what it shows, with at least one number."""
    texts = {
        name: httpx.get(url + METRICS, timeout=60).text for name, url in addresses(env).items()
    }
    return {
        name: {
            f"{family.name}_total" if family.type == "counter" else family.name: family
            for family in text_string_to_metric_families(text)
            if family.samples
        }
        for name, text in texts.items()
    }


def _value(family: Metric, suffix: str = "", **labels: str) -> float:
    wanted = family.name + suffix
    return sum(
        sample.value
        for sample in family.samples
        if sample.name == wanted and labels.items() <= sample.labels.items()
    )


def test_all_that_is_spoken_of_is_there_after_a_task(env: Env) -> None:
    ends_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    group = env.start_group("measured", auto_terminate_ts=ends_at)
    running = env.submit("sleep 600", group="measured", time_to_live_seconds=3600)
    env.wait_for(running, "computation-started")
    env.wait(env.submit("sh -c 'echo done > out.txt'"))
    env.wait(env.submit("false"))

    def there() -> set[str]:
        return {name for families in scraped(env).values() for name in families}

    wanted = measures().keys() - _SELDOM
    # The state of the deployment is some seconds old.
    with contextlib.suppress(AssertionError):
        until(lambda: wanted <= there(), timeout_s=60)
    assert wanted - there() == set()
    assert set(names_in_use()) <= measures().keys()
    by_process = scraped(env)
    for families in by_process.values():
        for name, family in families.items():
            # What is told of the process itself is no row of ours.
            if not name.startswith("process_"):
                assert MetricKind(family.type) is measures()[name].kind, name
    recorder, worker = by_process["recorder"], by_process["worker"]
    ended = recorder[table.TASKS_ENDED.name]
    assert _value(ended, "_total", status="success", cause="completed") >= 1
    assert _value(ended, "_total", status="failed", cause="nonzero_exit") >= 1
    assert _value(recorder[table.STAGE_SECONDS.name], "_count", stage="exec_command") >= 2
    assert _value(recorder[table.UPLOADED.name], "_total") > 0
    assert _value(recorder[table.LEASES.name], name="measured", group=group["id"]) == 1
    assert 0 < _value(recorder[table.DEADLINE_LEFT.name], name="measured") <= 3600
    # The jobs ran in children, and are seen in their parent.
    assert _value(worker[table.JOBS.name], "_total", name="sweep", outcome="done") >= 1
    assert _value(worker[table.SWEPT.name], server="main") > 0
    assert not [name for name in worker if name.startswith("simherd_executor_")]
    requests = by_process["api"][table.HTTP_REQUESTS.name]
    assert _value(requests, "_total", route="/tasks/{task_id}", status="200") >= 1
    (machine,) = (m["uuid"] for m in group["machines"])
    assert _file(env, machine).exists()
    env.api.delete("/compute/group", params={"machine_group_id": group["id"]})
    env.wait(running)
    # Who is gone is no target any more.
    until(lambda: not _file(env, machine).exists(), what="the machine's file to be gone")


def test_labels_hold_no_names(env: Env) -> None:
    task_id = env.submit("true")
    env.wait(task_id)
    env.api.get(f"/tasks/{task_id}")
    env.api.get(f"/no/such/{task_id}")
    env.api.request("BREW", "/tasks")
    machines = [folder.parent.name for folder in env.data.glob("machines/*/group")]
    for name, url in addresses(env).items():
        text = httpx.get(url + METRICS, timeout=60).text
        for word in (task_id, *machines, env.key):
            assert word not in text, name
        assert "BREW" not in text
        rows = [line for line in text.splitlines() if line.startswith("simherd_")]
        # A scrape of a process is cheap however many tasks there are.
        assert len(rows) < 3000, name


def test_every_process_says_that_it_is_well(env: Env) -> None:
    found = addresses(env)
    assert {name.split()[0] for name in found} == {"api", "worker", "recorder", "executor"}
    for name, url in found.items():
        assert httpx.get(url + LIVE, timeout=60).json() == {"status": "ok"}, name
        answer = httpx.get(url + READY, timeout=60).json()
        assert set(answer["checks"].values()) == {"ok"}, name
    assert set(env.api.get(READY).json()["checks"]) == {"redis", "database", "storage", "broker"}
    # Numbers are for the operator.
    assert env.api.get(METRICS).status_code == 404


def test_processes_of_one_machine_cannot_share_a_port(env: Env, tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    done = env.cli("up", "--port", "0", *data, more={"SIMHERD_METRICS_PORT": "9100"})
    assert done.returncode == 1
    assert "SIMHERD_METRICS_PORT is '9100'" in done.stderr
    port = addresses(env)["api"].rpartition(":")[2]
    settings = {"SIMHERD_STATE_DIR": str(tmp_path), "SIMHERD_TICKET_FILE": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "executor"],
        env={**env.environment, **settings, "SIMHERD_METRICS_PORT": port},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    said = f"SIMHERD_METRICS_PORT: cannot listen on 127.0.0.1 port {port}: Address already in use."
    assert done.stderr.strip() == f"simherd-executor: {said}"


@pytest.mark.parametrize("process", ["api", "worker", "executor", None])
def test_a_health_check_tells_a_process_from_none(env: Env, process: str | None) -> None:
    room = process if process == "executor" else "scheduler"
    urls = [url for name, url in addresses(env).items() if name.split()[0] == process]
    port = urls[0].rpartition(":")[2] if urls else "1"
    done = subprocess.run(
        [sys.executable, "-c", f"from {room}.entry import main; main()", "health"],
        env={**env.environment, "SIMHERD_METRICS_PORT": port},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (process is not None), done.stderr
    assert bool(re.search("Nothing responds at 127.0.0.1 port 1", done.stderr)) == (process is None)
