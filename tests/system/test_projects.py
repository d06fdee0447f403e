"""Projects, benchmarks, the account and the resources, by our own client."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import simherd
from simherd import benchmarks, errors, projects, resources, simulators, tasks, users
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.env import Env


@pytest.fixture(autouse=True)
def _connected(env: Env, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIMHERD_API_URL", env.url)
    monkeypatch.setenv("SIMHERD_API_KEY", env.key)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def waiting() -> Iterator[resources.MachineGroup]:
    """A group that takes tasks but starts none: it has no machines."""
    group = resources.ElasticMachineGroup(
        "local", 0, 1, machines_from="external", spot=False, max_idle_time=None
    )
    group.start()
    yield group
    group.terminate()


def submit(*commands: str, on: resources.MachineGroup | str = "local", project: str) -> tasks.Task:
    image = simulators.CustomImage("any")
    return image.run(commands=commands or ("true",), on=on, project=project)


@pytest.mark.conforms(
    "projects.Project",
    "projects.get_projects",
    "Project.add_task",
    "Project.remove_task",
    "Project.get_tasks",
    "Project.delete",
    "Project.get_metadata",
    "Project.set_metadata",
)
def test_a_project_holds_tasks_until_it_is_deleted(waiting: resources.MachineGroup) -> None:
    project = projects.Project("odd / name %2F")
    assert projects.Project("odd / name %2F") == project
    assert project in projects.get_projects()
    assert project.num_tasks == 0
    task = submit(on=waiting, project="elsewhere")
    project.add_task(task)
    assert project.get_tasks() == [task]
    assert project.get_tasks(status="success") == []
    assert project.task_by_status == {Status.SUBMITTED: 1}
    assert "In Queue: 1" in str(project)
    project.remove_task(task.id)
    assert project.get_tasks() == []
    with pytest.raises(errors.NotFound, match="not in the project"):
        project.remove_task(task)
    project.set_metadata({"by": "me"})
    assert project.get_metadata() == {"by": "me"}
    assert project.refresh().info["project_metadata"] == {"by": "me"}
    project.add_task(task)
    project.delete()
    assert project not in projects.get_projects()
    assert task.get_info()["project"] == "default"
    with pytest.raises(errors.InvalidInput, match="name"):
        projects.Project("")
    with pytest.raises(errors.ApiError, match=r"name: '\.\.'"):
        projects.Project("..")
    with pytest.raises(errors.ApiError, match="default"):
        projects.Project("default").delete()


@pytest.mark.conforms("Project.wait", "Project.download_outputs")
def test_a_project_is_waited_for_and_downloaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = submit("sh -c 'echo 1 > a.txt'", project="a/b")
    second = submit("sh -c 'echo 2 > a.txt; exit 3'", project="a/b")
    project = projects.Project("a/b").wait(polling_period=0.2)
    assert project.task_by_status == {Status.SUCCESS: 1, Status.FAILED: 1}
    assert "2 of 2 tasks have ended." in capsys.readouterr().out
    place = project.download_outputs(filenames=["a.txt"])
    assert (tmp_path / place / first.id / "a.txt").read_text() == "1\n"
    assert (tmp_path / place / second.id / "a.txt").read_text() == "2\n"
    assert place.name == "a_b"
    with pytest.raises(errors.SimherdError, match="Not everything") as raised:
        project.download_outputs("other", filenames=["stdout.txt", "b.txt"])
    assert first.id in str(raised.value)
    assert second.id in str(raised.value)


@pytest.mark.conforms(
    "benchmarks.Benchmark",
    "Benchmark.set_default",
    "Benchmark.add_run",
    "Benchmark.run",
    "Benchmark.wait",
    "Benchmark.export",
    "Benchmark.terminate",
)
def test_a_benchmark_compares_runs(tmp_path: Path) -> None:
    group = resources.MachineGroup("local", spot=False)
    benchmark = benchmarks.Benchmark("bench")
    with pytest.raises(errors.InvalidInput, match="simulator"):
        benchmark.add_run()
    benchmark.set_default(simulators.CustomImage("any"), on=group)
    benchmark.add_run(commands=["echo one"]).add_run(commands=["echo two"], on="local")
    benchmark.run(num_repeats=2).wait(polling_period=0.2, silent_mode=True)
    assert benchmark.task_by_status == {Status.SUCCESS: 4}
    assert benchmark.info["project_type"] == "benchmark"
    assert all(t.info["resubmit_on_preemption"] for t in benchmark.get_tasks())
    rows = json.loads(benchmark.export().read_text())
    assert [r["commands"] for r in rows] == ["echo one"] * 2 + ["echo two"] * 2
    assert all(r["computation_time (s)"] > 0 for r in rows)
    assert "container_image" not in rows[0]
    table = benchmark.export("csv", "table", status="success", select="all")
    assert table.name == "table.csv"
    with table.open(newline="") as file:
        assert {r["container_image"] for r in csv.DictReader(file)} == {"any"}
    for wrong in ({"fmt": "xml"}, {"select": "some"}, {"status": "odd"}):
        with pytest.raises(errors.InvalidInput, match=next(iter(wrong))):
            benchmark.export(**wrong)
    with pytest.raises(errors.InvalidInput, match="num_repeats"):
        benchmark.run(0)
    # The default group, which the tests share, is left alone.
    for task in benchmark.get_tasks():
        if task.info["machine_group_name"] == "local":
            projects.Project("default").add_task(task)
    benchmark.terminate().terminate()
    assert group.refresh().info["status"] in ("shutting_down", "terminated")


@pytest.mark.conforms("GET /users/info", "GET /users/costs", "GET /users/fees")
@pytest.mark.conforms("users.get_info", "users.get_quotas", "users.get_costs", "users.get_fees")
def test_the_account_is_shown() -> None:
    assert users.get_info()["username"]
    assert users.get_quotas()["max_vcpus"]["in_use"] > 0
    now = datetime.now(UTC)
    assert users.get_costs(now.year, now.month)[0]["month"] == f"{now:%Y-%m}"
    assert users.get_fees()["task_orchestration_fee"]["active"] is False


@pytest.mark.conforms(
    "resources.MachineGroup",
    "resources.ElasticMachineGroup",
    "resources.MPICluster",
    "resources.get",
    "resources.get_by_name",
    "MachineGroup.estimate_cloud_cost",
    "MachineGroup.can_start_resource",
)
def test_groups_come_in_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    later = datetime.now(UTC) + timedelta(hours=2)
    plain = resources.MachineGroup(
        "c2-standard-4", 2, max_idle_time=timedelta(minutes=5), auto_terminate_ts=later, zone="z"
    )
    elastic = resources.ElasticMachineGroup("c2-standard-4", 0, 3, spot=False)
    mpi = resources.MPICluster("local", 1, threads_per_core=1)
    made = [plain, elastic, mpi]
    try:
        assert [type(resources.get_by_name(g.name)) for g in made] == [
            resources.MachineGroup,
            resources.ElasticMachineGroup,
            resources.MPICluster,
        ]
        assert plain.info["max_idle_time"] == 300
        assert plain.info["zone"] == "z"
        assert datetime.fromisoformat(plain.info["auto_terminate_ts"]) == later
        assert plain.n_vcpus == (8, 4)
        assert plain.total_ram_gb == 16
        assert plain.estimate_cloud_cost() == pytest.approx(0.10)
        assert "0.100 US$ per hour" in capsys.readouterr().out
        assert elastic.num_machines == 3
        assert elastic.estimate_cloud_cost(verbose=False) == pytest.approx(0.63)
        assert mpi.info["threads_per_core"] == 1
        assert all(g.can_start_resource() for g in made)
        assert {g.name for g in made} <= {g.name for g in resources.get()}
    finally:
        for group in made:
            group.terminate()
    with pytest.raises(errors.InvalidInput, match="max_machines"):
        resources.ElasticMachineGroup("local", 2, 2)
    with pytest.raises(errors.InvalidInput, match="auto_terminate_ts"):
        resources.MachineGroup("local", auto_terminate_ts=datetime(2030, 1, 1))


@pytest.mark.conforms(
    "resources.get_available_machine_types",
    "resources.estimate_machine_cost",
    "simulators.list_available_images",
)
def test_the_catalogue_is_searched() -> None:
    found = resources.get_available_machine_types(
        machine_families=["c2"], vcpus_range=(5, 8), spot=True
    )
    assert [t["machine_type"] for t in found] == ["c2-standard-8"]
    assert resources.get_available_machine_types(gpus_range=(1, 8)) == []
    with pytest.raises(errors.ApiError, match="price_range"):
        resources.get_available_machine_types(price_range=(2, 1))
    assert resources.estimate_machine_cost("c2-standard-4", spot=True) == 0.05
    assert resources.estimate_machine_cost("c2-standard-4") == 0.21
    with pytest.raises(errors.NotFound, match="pdp-11"):
        resources.estimate_machine_cost("pdp-11")
    assert "reef3d" in simulators.list_available_images()["production"]
    assert {"benchmarks", "projects"} <= set(simherd.__all__)
