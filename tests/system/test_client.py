"""Our own client against a Simherd, as a program of a user's."""

from __future__ import annotations

import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import simherd
from simherd import errors, resources, simulators, tasks, utils
from tests.support.env import zipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Env


@pytest.fixture(autouse=True)
def _connected(env: Env, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIMHERD_API_URL", env.url)
    monkeypatch.setenv("SIMHERD_API_KEY", env.key)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    folder = tmp_path / "case"
    (folder / "empty").mkdir(parents=True)
    (folder / "sub").mkdir()
    (folder / "in.txt").write_text("data")
    (folder / "sub" / "go.sh").write_text("#!/bin/sh\necho went > went.txt\n")
    (folder / "sub" / "go.sh").chmod(0o755)
    (folder / "link.txt").symlink_to("in.txt")
    return folder


def quick(*commands: str, **more: Any) -> tasks.Task:
    return simulators.CustomImage("any").run(commands=commands or ("true",), **more)


@pytest.mark.conforms("Simulator.run")
def test_a_folder_goes_in_and_its_outputs_come_back(
    case: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = simulators.CustomImage("any").run(
        case,
        commands=["sub/go.sh", "readlink link.txt", "test -d empty", "sh -c 'echo hi >&2'"],
        time_to_live="5m",
        project="client",
    )
    assert task.wait(polling_period=0.1) == "success"
    shown = capsys.readouterr().out
    assert "■ Success" in shown
    assert "\nin.txt\n" in shown
    assert "hi\n" in shown
    assert shown.count("# COMMAND: readlink") == 1
    place = task.download_outputs()
    assert place == Path("simherd_output") / task.id / "outputs"
    assert (place / "went.txt").read_text() == "went\n"
    assert task.get_machine_type() == "local"
    assert task.get_simulator_name() == "arbitrary_commands"
    assert task.get_storage_path() == task.id
    assert 0 < (task.get_computation_time() or 0) <= (task.get_total_time() or 0)
    assert "Computation:" in task.summary
    inputs = task.download_inputs()
    assert inputs is not None
    assert os.access(inputs / "sub" / "go.sh", os.X_OK)
    assert (inputs / "link.txt").is_symlink()
    assert (inputs / "empty").is_dir()


def test_some_outputs_are_downloaded_or_a_name_is_refused(tmp_path: Path) -> None:
    task = quick("mkdir -p a/b", "sh -c 'echo one > a/b/one.txt; echo two > two.txt'")
    task.wait(silent_mode=True, download_std_on_completion=False)
    place = task.download_outputs(["a/b/one.txt"], output_dir="some")
    assert place == Path("simherd_output/some")
    assert [p.name for p in place.rglob("*") if p.is_file()] == ["one.txt"]
    with pytest.raises(errors.InvalidInput, match=r"filenames: 'three\.txt'"):
        task.download_outputs(["two.txt", "three.txt"], output_dir="none")
    assert not Path("simherd_output/none").exists()
    info = task.get_output_info()
    assert {f.name for f in info.contents} == {
        *("a/b/one.txt", "two.txt", "stdout.txt", "stderr.txt", "system_metrics.csv")
    }
    assert "4 B          " in str(info)
    archive = task.download_outputs(uncompress=False, output_dir="zip")
    assert archive is not None
    assert (archive / "output.zip").stat().st_size == info.size


@pytest.mark.conforms("get_output_dir", "set_output_dir")
def test_the_output_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simherd.config._output_dir", "simherd_output")
    task = quick()
    task.wait(silent_mode=True, download_std_on_completion=False)
    simherd.set_output_dir("vault")
    assert simherd.get_output_dir() == "vault"
    assert task.download_outputs() == Path("vault") / task.id / "outputs"
    simherd.set_output_dir("None")
    assert task.download_outputs(output_dir="here") == Path("here")


def test_waiting_brings_the_standard_files_home() -> None:
    task = quick("echo said")
    task.wait(silent_mode=True)
    folder = Path("simherd_output") / task.id / "outputs"
    assert "said" in (folder / "stdout.txt").read_text()
    assert (folder / "stderr.txt").exists()


@pytest.mark.conforms("tasks.get", "tasks.get_all", "tasks.get_tasks", "tasks.to_dict")
def test_tasks_of_earlier_sessions_are_found() -> None:
    made = [quick(project="found") for _ in range(3)]
    for task in made:
        task.wait(silent_mode=True, download_std_on_completion=False)
    assert tasks.get(2, project="found") == [made[2], made[1]]
    assert tasks.get_all(status="success", project="found") == made[::-1]
    assert tasks.get_tasks(last_n=0, project="found") == made[::-1]
    assert tasks.get_tasks(last_n=1, status="failed", project="found") == []
    columns = tasks.to_dict(tasks.get(1, project="found"))
    assert columns["ID"] == [made[2].id]
    assert columns["Status"] == ["Success"]
    assert tasks.Task(made[0].id).get_info()["project"] == "found"
    with pytest.raises(errors.InvalidInput, match="status: there is no 'done'"):
        tasks.get(status="done")


def test_kill_says_what_became_of_it() -> None:
    running = quick("sleep 600")
    running.wait_for_status("computation-started", polling_period=0.05, silent_mode=True)
    assert running.is_running()
    assert running.kill(wait_timeout=0, verbosity_level=0) is False
    assert running.kill(wait_timeout=60, verbosity_level=0) is True
    assert running.is_terminal()
    assert running.is_failed()
    assert running.kill(wait_timeout=None) is None
    with pytest.raises(errors.InvalidInput, match="wait_timeout"):
        running.kill(wait_timeout=-1)


def test_waiting_for_a_status_ends_with_the_task() -> None:
    task = quick("false")
    status = task.wait_for_status("success", polling_period=0.05, silent_mode=True)
    assert status == "failed"
    assert task.is_failed()


def test_a_sync_context_kills_on_an_exception() -> None:
    task = quick("sleep 600")
    with pytest.raises(KeyError), task.sync_context():
        raise KeyError
    assert task.wait(silent_mode=True, download_std_on_completion=False) == "killed"


def test_position_in_queue_and_metadata() -> None:
    group = resources.MachineGroup("local", name="not-started")
    with pytest.raises(errors.InvalidInput, match="on: the machine group 'not-started'"):
        simulators.CustomImage("any").run(commands=["true"], on=group)
    task = quick()
    task.set_metadata({"study": "one"})
    assert task.get_metadata() == {"study": "one"}
    with pytest.raises(errors.InvalidInput, match="metadata"):
        task.set_metadata({"": "x"})
    task.wait(silent_mode=True)
    assert task.get_position_in_queue() is None
    group.terminate()


@pytest.mark.conforms("MachineGroup.start", "MachineGroup.terminate")
def test_a_group_starts_runs_and_terminates() -> None:
    group = resources.MachineGroup("c2-standard-4", max_idle_time="10m", auto_terminate_minutes=60)
    group.start()
    task = quick("sleep 600", on=group)
    task.wait_for_status("computation-started", polling_period=0.05, silent_mode=True)
    assert group.name in [g.name for g in resources.get()]
    assert resources.get_by_name(group.name).id == group.id
    group.terminate()
    assert task.wait(silent_mode=True) == "executer-terminated-by-user"
    types = resources.get_available_machine_types(spot=True)
    assert "c2-standard-4" in {t["machine_type"] for t in types}


def test_remote_files_are_removed() -> None:
    task = quick()
    task.wait(silent_mode=True)
    assert task.get_output_url()
    assert task.remove_remote_files(verbose=False) is True
    assert task.remove_remote_files(verbose=False) is False
    assert task.get_output_url() is None
    assert task.get_input_url() is None
    assert task.download_outputs() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dir": "nowhere"}, "input_dir: there is no folder 'nowhere'"),
        ({"input_dir": "empty"}, "input_dir: 'empty' has no files"),
        ({"input_dir": "pipe"}, "input_dir: 'fifo' is not a file"),
        ({"input_dir": "broken"}, "input_dir: 'link' cannot be read"),
        ({"time_to_live": "-5m"}, "time_to_live: '-5m' is not a duration"),
        ({"time_to_live": "0"}, "time_to_live: '0' must be more than zero"),
        ({"time_to_live": "soon"}, "time_to_live: 'soon' is not a duration"),
        ({"commands": []}, "commands: at least one"),
        ({"commands": "true"}, "commands: a list is needed"),
        ({"commands": [3]}, r"commands\[0\]: 3 is neither"),
        ({"commands": [{"command": "true"}]}, r"commands\[0\]: .* needs the text 'cmd'"),
        ({"speed": "fast"}, "speed: CustomImage has no such argument"),
        ({"on": "a/b"}, "name: 'a/b' is not a machine group's name"),
    ],
)
def test_what_is_not_usable_is_named_and_nothing_is_sent(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "fifo")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "link").symlink_to(tmp_path / "gone")
    before = len(tasks.get_all())
    with pytest.raises(errors.InvalidInput, match=message):
        simulators.CustomImage("any").run(**{"commands": ["true"], **arguments})
    assert len(tasks.get_all()) == before


def test_simulators_come_from_the_catalogue(tmp_path: Path) -> None:
    assert {"GROMACS", "LAMMPS", "OpenFOAM", "REEF3D", "SplishSplash"} <= set(dir(simulators))
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "in.txt").write_text("x")
    with pytest.raises(errors.InvalidInput, match=r"no file 'a\.json'"):
        simulators.SplishSplash().run("case", sim_config_filename="a.json")
    with pytest.raises(errors.InvalidInput, match="input_script: LAMMPS needs it"):
        simulators.LAMMPS().run("case")
    with pytest.raises(errors.InvalidInput, match="commands: those of REEF3D are fixed"):
        simulators.REEF3D().run("case", commands=["true"])
    with pytest.raises(errors.InvalidInput, match="version: '1' is not one of"):
        simulators.REEF3D(version="1")
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = simulators.Nonsense
    task = simulators.REEF3D().run("case", n_vcpus=2)
    info = task.get_info()
    assert info["simulator"] == "reef3d"
    assert info["container_image"] == "docker://inductiva/kutu:reef3d_v25.02"
    options = info["extra_params"]["commands"][1]["mpi_config"]["options"]
    assert options == {"use-hwthread-cpus": True, "np": 2}


def test_a_wrong_key_and_a_dead_server_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMHERD_API_KEY", "wrong")
    with pytest.raises(errors.Unauthorized, match="key"):
        tasks.get()
    monkeypatch.setenv("SIMHERD_API_URL", "http://127.0.0.1:9")
    with pytest.raises(errors.Unreachable, match=r"127\.0\.0\.1:9 does not respond"):
        tasks.get()
    monkeypatch.delenv("SIMHERD_API_URL")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    with pytest.raises(errors.NotConnected, match="simherd up"):
        tasks.get()


def test_unknown_things_are_not_found() -> None:
    with pytest.raises(errors.NotFound, match="'no-such-group'"):
        quick(on="no-such-group")
    with pytest.raises(errors.NotFound, match="there is no task"):
        tasks.Task("0" * 25).get_info()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "case.zip").write_bytes(zipped({"a.txt": "A"}, root="case/"))
    (tmp_path / "web" / "plain.txt").write_text("plain")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.conforms("utils.download_from_url")
def test_an_example_is_downloaded_and_unzipped(web: str) -> None:
    assert utils.download_from_url(f"{web}/case.zip", unzip=True) == "case"
    assert Path("case/a.txt").read_text() == "A"
    assert not Path("case.zip").exists()
    assert utils.download_from_url(f"{web}/plain.txt", save_path="other.txt") == "other.txt"
    assert Path("other.txt").read_text() == "plain"
    with pytest.raises(errors.TransferError, match="404"):
        utils.download_from_url(f"{web}/none.txt")
    with pytest.raises(errors.TransferError, match="zip"):
        utils.download_from_url(f"{web}/plain.txt", unzip=True)
    with pytest.raises(errors.InvalidInput, match="url"):
        utils.download_from_url("file:///etc/passwd")
