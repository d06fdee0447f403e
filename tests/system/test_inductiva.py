"""The published `inductiva` client, unmodified, against a Simherd."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import REPOSITORY
from tests.support.env import Env

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = pytest.mark.slow


def run(env: Env, folder: Path, script: str) -> dict[str, Any]:
    """What a script puts into its dictionary `seen`."""
    whole = f"import inductiva, json\nseen = {{}}\n{script}\nprint('SEEN ' + json.dumps(seen))\n"
    out = env.python(whole, folder)
    found: dict[str, Any] = json.loads(out.rpartition("SEEN ")[2])
    return found


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A folder with a folder `case` of inputs in it."""
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "in.txt").write_text("data")
    return tmp_path


#: A task that runs until it is stopped.
SLEEPER = """
group = inductiva.resources.machine_groups.get_by_name("local")
task = inductiva.simulators.CustomImage("docker://debian:bookworm").run(
    "case", commands=["sleep 600"], on=group)
"""


@pytest.fixture(scope="module")
def ended(env: Env, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A task that the published client submitted, waited for and downloaded."""
    folder = tmp_path_factory.mktemp("inductiva")
    (folder / "case").mkdir()
    (folder / "case" / "in.txt").write_text("data")
    script = """
group = inductiva.resources.MachineGroup("c2-standard-4", num_machines=1)
group.start()
image = inductiva.simulators.CustomImage("docker://debian:bookworm")
task = image.run("case", commands=["cp in.txt out.txt", "mkdir sub", "cp in.txt sub/deep.txt"],
                 on=group, project="one-run", time_to_live="10m", storage_dir="mine")
status = task.wait()
task.set_metadata({"study": "one"})
seen.update(
    id=task.id, group=group.name, status=str(status.value), terminal=task.is_terminal(),
    machine=task.get_machine_type(), metadata=task.get_metadata(),
    files=sorted(f.name for f in task.get_output_info().files),
    computed=task.get_computation_time(), total=task.get_total_time(),
    whole=str(task.download_outputs()),
    part=str(task.download_outputs(filenames=["sub/deep.txt", "stdout.txt"], output_dir="part")),
    inputs=str(task.download_inputs()), summary=task.summary,
    url=task.get_output_url(), path=task.get_storage_path(),
    project=[t.id for t in inductiva.projects.Project("one-run").get_tasks()],
)
group.terminate()
"""
    return {"folder": folder, **run(env, folder, script)}


@pytest.mark.conforms(
    "POST /tasks/submit",
    "POST /tasks/{task_id}/input_uploaded",
    "PUT a signed URL",
    "Task.wait",
    face="inductiva",
)
@pytest.mark.conforms("7.1", "7.4", "7.5", "7.6", "7.19", face="inductiva")
def test_a_run_ends_with_success_and_says_where_it_was(ended: dict[str, Any]) -> None:
    assert ended["status"] == "success"
    assert ended["terminal"] is True
    assert ended["machine"] == "GCP-c2-standard-4"
    assert ended["metadata"] == {"study": "one"}
    assert ended["files"] == [
        *("out.txt", "stderr.txt", "stdout.txt", "sub/deep.txt", "system_metrics.csv")
    ]
    assert ended["total"] >= ended["computed"] > 0
    assert ended["path"] == f"mine/{ended['id']}"
    assert ended["project"] == [ended["id"]]
    assert "Success" in ended["summary"]


@pytest.mark.conforms("Task.download_outputs", "Task.download_inputs", face="inductiva")
def test_outputs_are_downloaded_whole_and_in_part(ended: dict[str, Any]) -> None:
    whole, part = ended["folder"] / ended["whole"], ended["folder"] / ended["part"]
    assert (whole / "out.txt").read_text() == "data"
    assert (whole / "sub" / "deep.txt").read_text() == "data"
    found = sorted(p.relative_to(part).as_posix() for p in part.rglob("*") if p.is_file())
    assert found == ["stdout.txt", "sub/deep.txt"]
    inputs = ended["folder"] / ended["inputs"]
    assert next(inputs.rglob("in.txt")).read_text() == "data"


@pytest.mark.conforms("tasks.get", "tasks.get_all", "tasks.to_dict", "7.2", "7.3", face="inductiva")
def test_tasks_of_earlier_sessions_are_found(
    env: Env, ended: dict[str, Any], tmp_path: Path
) -> None:
    script = """
last = inductiva.tasks.get(last_n=50, status="success")
seen.update(ids=[t.id for t in last], all=len(inductiva.tasks.get_all()) >= len(last),
            table=list(inductiva.tasks.to_dict(last)))
"""
    seen = run(env, tmp_path, script)
    assert ended["id"] in seen["ids"]
    assert seen["all"]
    assert "ID" in seen["table"]


@pytest.mark.conforms("Task.kill", "Task.wait_for_status", face="inductiva")
def test_a_running_task_is_killed(env: Env, case: Path) -> None:
    script = """
task.wait_for_status("computation-started")
seen.update(killed=task.kill(wait_timeout=30), status=str(task.get_status().value),
            failed=task.is_failed())
"""
    seen = run(env, case, SLEEPER + script)
    assert seen == {"killed": True, "status": "killed", "failed": True}


@pytest.mark.conforms("Task.sync_context", face="inductiva")
def test_an_exception_in_a_sync_context_kills_the_task(env: Env, case: Path) -> None:
    script = """
try:
    with task.sync_context():
        raise KeyError("oh")
except KeyError:
    pass
task.wait(silent_mode=True, download_std_on_completion=False)
seen.update(status=str(task.get_status().value))
"""
    assert run(env, case, SLEEPER + script) == {"status": "killed"}


@pytest.mark.conforms("Task.wait", "7.13", "7.15", face="inductiva")
def test_a_failed_task_brings_its_output_home(env: Env, case: Path) -> None:
    script = """
group = inductiva.resources.machine_groups.get_by_name("local")
task = inductiva.simulators.CustomImage("docker://debian:bookworm").run(
    "case", commands=["cat in.txt", "ls nowhere"], on=group)
seen.update(status=str(task.wait().value), id=task.id)
"""
    seen = run(env, case, script)
    assert seen["status"] == "failed"
    outputs = case / "inductiva_output" / seen["id"] / "outputs"
    assert "data" in (outputs / "stdout.txt").read_text()
    assert "nowhere" in (outputs / "stderr.txt").read_text()


@pytest.fixture(scope="module")
def docker_env(tmp_path_factory: pytest.TempPathFactory, splishsplash_image: None) -> Iterator[Env]:
    made = Env(tmp_path_factory.mktemp("docker"), "--backend", "docker")
    made.start()
    yield made
    made.stop()


@pytest.mark.docker
def test_splishsplash_runs_in_its_container(docker_env: Env, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "simherd/demo_data/double-dam-break", tmp_path / "case")
    scene = json.loads((tmp_path / "case/config.json").read_text())
    scene["Configuration"].update(particleRadius=0.05, stopAt=0.05, dataExportFPS=100)
    (tmp_path / "case/config.json").write_text(json.dumps(scene))
    script = """
group = inductiva.resources.MachineGroup("c2-standard-4")
group.start()
simulator = inductiva.simulators.SplishSplash()
task = simulator.run("case", sim_config_filename="config.json", on=group)
seen.update(status=str(task.wait().value), out=str(task.download_outputs()),
            name=task.get_simulator_name())
group.terminate()
"""
    seen = run(docker_env, tmp_path, script)
    assert seen["status"] == "success"
    out = tmp_path / seen["out"]
    assert "SPlisHSPlasH" in (out / "stdout.txt").read_text()
    assert list((out / "vtk").glob("*.vtk"))
