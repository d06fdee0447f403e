"""Projects, benchmarks, resources and users of the published client, and its command line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.env import Env

pytestmark = pytest.mark.slow

#: Runs the published command line in this process, where it is imported once. It keeps the
#: standard output that was there when it was imported: a mark says which command printed what.
COMMANDS = """
import sys
from inductiva._cli.main import main

def command(label, *words):
    sys.argv = ["inductiva", *words]
    print(f"\\n@@{label}@@", flush=True)
    try:
        code = main()
    except SystemExit as done:
        code = done.code
    print(f"@@exit {code or 0}@@", flush=True)
"""


def run(env: Env, folder: Path, script: str, **more: str) -> dict[str, Any]:
    """What a script puts into its dictionary `seen`."""
    whole = f"import inductiva, json\nseen = {{}}\n{script}\nprint('SEEN ' + json.dumps(seen))\n"
    out = env.python(whole, folder, **more)
    found: dict[str, Any] = json.loads(out.rpartition("SEEN ")[2])
    return found


@pytest.mark.conforms("7.11", "7.22", face="inductiva")
@pytest.mark.conforms(
    *("GET /version-check", "GET /users/info", "GET /users/quotas"),
    *("GET /users/costs", "GET /users/fees", "GET /projects", "POST /projects"),
    *("GET /projects/{name}", "DELETE /projects", "POST /projects/{name}/task/{task_id}/add"),
    *("GET /projects/{name}/tasks_info", "projects.Project", "projects.get_projects"),
    *("Project.add_task", "Project.get_tasks", "Project.wait", "Project.download_outputs"),
    *("Project.delete", "benchmarks.Benchmark", "Benchmark.add_run", "Benchmark.run"),
    *("Benchmark.wait", "Benchmark.export", "Benchmark.terminate", "Benchmark.set_default"),
    *("users.get_info", "users.get_quotas", "users.get_costs", "users.get_fees"),
    face="inductiva",
)
def test_projects_and_benchmarks(env: Env, tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "in.txt").write_text("data")
    script = """
import pathlib
group = inductiva.resources.MachineGroup("c2-standard-4", spot=True)
image = inductiva.simulators.CustomImage("docker://debian:bookworm")
bench = inductiva.benchmarks.Benchmark("their bench")
bench.set_default(simulator=image, input_dir="case", on=group)
bench.add_run(commands=["cp in.txt one.txt"]).add_run(commands=["cp in.txt two.txt"])
bench.run(num_repeats=1).wait()
bench.export("csv", select="all")
bench.export(fmt="json", filename="rows", status="success")
task = bench.get_tasks()[0]

project = inductiva.projects.Project("their/odd %2F name")
project.add_task(task)
again = inductiva.projects.Project("their/odd %2F name")
again.wait()
again.download_outputs()
seen.update(
    csv=pathlib.Path("their bench.csv").read_text(),
    rows=json.loads(pathlib.Path("rows.json").read_text()),
    task=task.id, tasks=[t.id for t in again.get_tasks()], text=str(again), same=again == project,
    names=[p.name for p in inductiva.projects.get_projects()],
    overview={str(k.value): v for k, v in again.task_by_status.items()},
)
again.delete()
bench.terminate()
seen.update(
    after=task.get_info().project if hasattr(task.get_info(), "project") else None,
    left=[p.name for p in inductiva.projects.get_projects()],
    group=[g.name for g in inductiva.resources.get()].count(group.name),
    user=inductiva.users.get_info().username,
    quotas=sorted(inductiva.users.get_quotas()),
    costs=len(inductiva.users.get_costs(2026, 1, 2026, 2)),
    fees=inductiva.users.methods.get_fees().task_orchestration_fee.amount,
)
"""
    # What import prints asks for the user, the quotas, the costs and the fees as well.
    seen = run(env, tmp_path, script, INDUCTIVA_DISABLE_IMPORT_INFO="0", GITHUB_ACTIONS="0")
    header, *lines = seen["csv"].strip().splitlines()
    assert "computation_time (s)" in header
    assert len(lines) == 2
    assert [r["commands"] for r in seen["rows"]] == ["cp in.txt one.txt", "cp in.txt two.txt"]
    assert seen["tasks"] == [seen["task"]]
    assert seen["same"] is True
    assert seen["overview"] == {"success": 1}
    assert "Total number of tasks: 1" in seen["text"]
    assert {"their bench", "their/odd %2F name", "default"} <= set(seen["names"])
    assert "their/odd %2F name" not in seen["left"]
    assert {"max_vcpus", "max_instances", "max_price_hour"} <= set(seen["quotas"])
    assert seen["costs"] == 2
    assert seen["fees"] == 0
    assert list(tmp_path.rglob("two.txt")) or list(tmp_path.rglob("one.txt"))


@pytest.mark.conforms("7.7", "7.12", face="inductiva")
@pytest.mark.conforms(
    *("POST /compute/group", "POST /compute/group/start", "DELETE /compute/group"),
    *("GET /compute/groups", "GET /compute/group/{name}", "GET /compute/price"),
    *("GET /pricing/machine-types", "GET /simulators/available-images"),
    *("resources.MachineGroup", "resources.ElasticMachineGroup", "resources.MPICluster"),
    *("resources.get", "resources.get_by_name", "resources.get_available_machine_types"),
    *("resources.estimate_machine_cost", "MachineGroup.estimate_cloud_cost"),
    *("MachineGroup.can_start_resource", "MachineGroup.start", "MachineGroup.terminate"),
    "simulators.list_available_images",
    face="inductiva",
)
def test_resources(env: Env, tmp_path: Path) -> None:
    script = """
r = inductiva.resources
plain = r.MachineGroup("c2-standard-4", num_machines=2, max_idle_time=5)
elastic = r.ElasticMachineGroup("c2-standard-8", min_machines=1, max_machines=3, spot=False)
cluster = r.MPICluster("c2-standard-4", num_machines=1)
seen.update(
    can=[g.can_start_resource() for g in (plain, elastic, cluster)],
    cost=[g.estimate_cloud_cost() for g in (plain, elastic)],
    vcpus=[g.n_vcpus.total for g in (plain, elastic, cluster)],
    kinds=sorted(type(g).__name__ for g in r.get() if g.name in
                 (plain.name, elastic.name, cluster.name)),
    started=plain.start(wait_for_quotas=True),
    again=type(r.machine_groups.get_by_name(plain.name)).__name__,
    types=[t.machine_type for t in r.get_available_machine_types(
        machine_families=["c2"], vcpus_range=(5, 8), memory_range=(1, 64),
        price_range=(0, 1), spot=True, zones=["local-a"])],
    none=len(r.get_available_machine_types(gpus_range=(1, 8), gpu_names=["NVIDIA L4"])),
    configs=[t.machine_type for t in r.get_available_machine_types(
        provider="LOCAL", machine_configs=["highcpu"], spot=False)],
    price=[r.estimate_machine_cost("c2-standard-4", spot) for spot in (True, False)],
    images=sorted(inductiva.simulators.methods.list_available_images()),
)
try:
    r.machine_groups.get_by_name("nothing")
except inductiva.client.ApiException as error:
    seen.update(missing=error.status)
plain.terminate()
inductiva.api.get_client()
for group in (elastic, cluster):
    group.start()
    group.terminate()
"""
    seen = run(env, tmp_path, script)
    assert seen == {
        "can": [True, True, True],
        "cost": [pytest.approx(0.1), pytest.approx(1.26)],
        "vcpus": [8, 24, 4],
        "kinds": ["ElasticMachineGroup", "MPICluster", "MachineGroup"],
        "started": True,
        "again": "MachineGroup",
        "types": ["c2-standard-8"],
        "none": 0,
        "configs": ["n2-highcpu-4"],
        "price": [0.05, 0.21],
        "images": ["development", "production"],
        "missing": 404,
    }


@pytest.mark.conforms(
    *("PATCH /projects/{name}", "POST /projects/{name}/task/{task_id}/remove"),
    *("GET /projects/{name}/metadata", "PUT /projects/{name}/metadata"),
    *("PATCH /projects/{name}/metadata", "GET /compute/groups/history"),
    "GET /compute/machine_types",
    face="inductiva",
)
def test_what_its_generated_part_has_besides(env: Env, tmp_path: Path) -> None:
    task = env.submit("true", project="gen/old")
    script = (
        f"task = {task!r}"
        + """
client = inductiva.api.get_client()
projects = inductiva.client.ProjectsApi(client)
compute = inductiva.client.ComputeApi(client)
models = inductiva.client.models
projects.update_project("gen/old", models.ProjectUpdate(name="gen/new"))
projects.set_project_metadata("gen/new", {"a": "1"})
projects.update_project_metadata("gen/new", {"b": "2"})
seen.update(metadata=projects.get_project_metadata("gen/new"),
            whole=projects.get_project("gen/new").project_metadata)
projects.remove_task_from_project("gen/new", task)
seen.update(
    left=projects.get_project("gen/new").num_tasks,
    page=len(projects.get_user_projects(page=1, per_page=1, project_type="project")),
    groups=[g.name for g in compute.list_user_instance_groups(per_page=500)].count("local"),
    types=sorted({t["machine_type"] if isinstance(t, dict) else t.machine_type
                  for t in compute.list_available_machine_types(machine_families=["c2d"])}),
)
"""
    )
    assert run(env, tmp_path, script) == {
        "metadata": {"a": "1", "b": "2"},
        "whole": {"a": "1", "b": "2"},
        "left": 0,
        "page": 1,
        "groups": 1,
        "types": ["c2d-standard-16"],
    }


@pytest.mark.conforms(
    *("projects list", "projects download", "quotas list", "user info", "simulators list"),
    *("resources available", "resources list", "resources info", "resources start"),
    *("resources terminate", "resources cost", "tasks list", "tasks info", "tasks download"),
    "tasks kill",
    face="inductiva",
)
def test_the_command_line(env: Env, tmp_path: Path) -> None:
    done = env.submit("echo hello", project="their cli")
    env.wait(done)
    busy = env.submit("sleep 600", project="their cli")
    script = (
        f"done, busy = {done!r}, {busy!r}"
        + COMMANDS
        + """
import inductiva
command("projects", "projects", "ls")
command("fetched", "projects", "download", "their cli", "--std", "--output-dir", "got")
command("quotas", "quotas", "list")
command("user", "user", "info")
command("simulators", "simulators", "list", "--dev")
command("available", "resources", "available", "-f", "c2", "--spot")
command("start", "resources", "start", "c2-standard-4", "-n", "1", "-d", "20")
command("cost", "resources", "cost", "c2-standard-4", "-n", "3")
command("listed", "tasks", "list", "-n", "50", "-p", "their cli")
command("one", "tasks", "list", "-i", done)
command("info", "tasks", "info", done)
command("download", "tasks", "download", done, "--filenames", "stdout.txt", "--dir", "there")
command("kill", "tasks", "kill", busy, "-y", "-w", "60")
(group,) = [g for g in inductiva.resources.get() if g.data_disk_gb == 20]
command("name", "resources", "info", group.name)
command("groups", "resources", "list")
command("terminate", "resources", "terminate", "-y", group.name)
command("logout", "auth", "logout")
print(f"@@group@@{group.name}@@exit 0@@")
"""
    )
    out = env.python(script, tmp_path)
    found = re.findall(r"@@(\w+)@@(.*?)@@exit (.*?)@@", out, re.DOTALL)
    assert [(label, code) for label, _, code in found if code != "0"] == []
    said = {label: text for label, text, _ in found}
    name = said["group"]
    assert "their cli" in said["projects"]
    assert "Downloads completed." in said["fetched"]
    assert list((tmp_path / "got").rglob("stdout.txt"))
    assert "vCPUs of all machines" in said["quotas"]
    assert "local" in said["user"]
    assert "reef3d" in said["simulators"]
    assert "c2-standard-" in said["available"]
    assert "0.63" in said["cost"]
    assert done in said["listed"]
    assert busy not in said["one"]
    assert "echo hello" in said["info"] or "Success" in said["info"]
    assert list((tmp_path / "there").rglob("stdout.txt"))
    assert env.status(busy) == "killed"
    assert name in said["groups"]
    assert name in said["name"]
    group = env.api.get(f"/compute/group/{name}").json()
    assert group["status"] in ("shutting_down", "terminated")
