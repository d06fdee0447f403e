"""`Task`, method by method as the class reference has it, by our client."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from simherd import errors, resources
from simherd.contract.lifecycle import Status
from simherd.tasks import Task, TaskInfo
from tests.support.waits import until
from tests.system.test_live_files import Running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Env

#: What the task of these tests is given, and what it makes of it.
GIVEN = {"in.txt": "data", "sub/deep.txt": "deep"}
COMMANDS = ("cp in.txt out.txt", "sh -c 'mkdir log; seq 20 > log/steps.txt; echo oops >&2'")


@pytest.fixture(autouse=True)
def _connected(env: Env, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIMHERD_API_URL", env.url)
    monkeypatch.setenv("SIMHERD_API_KEY", env.key)
    monkeypatch.setattr("simherd.config._output_dir", "simherd_output")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def ended(env: Env) -> str:
    """The id of a task that ended well."""
    task_id = env.submit(*COMMANDS, files=GIVEN, project="reference")
    env.wait(task_id)
    return task_id


@pytest.fixture
def task(ended: str) -> Task:
    return Task(ended)


@pytest.fixture(scope="module")
def waiting(env: Env) -> Iterator[list[Task]]:
    """Two tasks that wait: their group has no machines."""
    group = env.api.post(
        "/compute/group", json={"machine_type": "local", "name": "reference-none"}
    ).json()
    yield [Task(env.submit("true", group="reference-none")) for _ in range(2)]
    env.api.delete("/compute/group", params={"machine_group_id": group["id"]})


@pytest.fixture(scope="module")
def running(env: Env) -> Iterator[Running]:
    made = Running(env)
    yield made
    made.stop()


def files(folder: Path | None) -> dict[str, str]:
    assert folder is not None
    return {
        p.relative_to(folder).as_posix(): p.read_text()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.suffix == ".txt"
    }


@pytest.mark.conforms("tasks.Task")
def test_handles_of_one_task_are_equal_and_made_without_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIMHERD_API_URL", "http://127.0.0.1:9")
    first, second = Task("i4ir3kvv62odsfrhko4y8w2an"), Task("i4ir3kvv62odsfrhko4y8w2an")
    assert first is not second
    assert (first.id, first) == (second.id, second)


@pytest.mark.conforms("Task.from_api_info", "Task.info", "Task.get_simulator_name")
def test_a_task_of_a_list_needs_no_further_request(
    env: Env, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = env.api.get("/tasks", params={"project": "reference"}).json()["tasks"]
    monkeypatch.setenv("SIMHERD_API_URL", "http://127.0.0.1:9")
    task = Task.from_api_info(next(r for r in rows if r["task_id"] == ended))
    assert task.id == ended
    assert task.info["project"] == "reference"
    assert task.get_simulator_name() == "arbitrary_commands"
    assert task.get_storage_path() == ended
    assert task.get_status() == "success"
    assert task.get_computation_time(cached=True)
    with pytest.raises(errors.Unreachable):
        task.get_info()


@pytest.mark.conforms("Task.get_info", "Task.info")
def test_info_is_asked_for_once_and_get_info_each_time(running: Running) -> None:
    task = Task(running.id)
    known = task.info
    assert isinstance(known, TaskInfo)
    task.set_metadata({"n": "1"})
    assert task.info is known
    assert known["task_metadata"] == {}
    assert task.get_info()["task_metadata"] == {"n": "1"}
    assert {"task_id", "status", "create_time", "input_submit_time", "start_time"} <= set(task.info)


@pytest.mark.conforms(
    *("Task.get_status", "Task.is_running", "Task.is_terminal", "Task.is_failed"),
    *("Task.get_position_in_queue", "Task.get_machine_type", "Task.get_storage_path"),
)
def test_where_a_task_stands(task: Task, waiting: list[Task], running: Running) -> None:
    working = Task(running.id)
    tasks = (waiting[1], working, task)
    assert [t.get_status() for t in tasks] == ["submitted", "computation-started", "success"]
    assert all(isinstance(t.get_status(), Status) for t in tasks)
    assert [t.is_running() for t in tasks] == [False, True, False]
    assert [t.is_terminal() for t in tasks] == [False, False, True]
    assert [t.is_failed() for t in tasks] == [False] * 3
    assert [t.get_position_in_queue() for t in tasks] == [1, None, None]
    assert [t.get_machine_type() for t in tasks] == [None, "local", "local"]
    assert [t.get_storage_path() for t in tasks] == [t.id for t in tasks]


@pytest.mark.conforms("Task.get_computation_time", "Task.get_total_time")
def test_times_are_seconds_and_grow_while_it_runs(
    task: Task, waiting: list[Task], running: Running
) -> None:
    assert waiting[0].get_computation_time() is None
    assert (waiting[0].get_total_time() or 0) > 0
    working = Task(running.id)
    first = working.get_computation_time() or 0
    until(lambda: (working.get_computation_time() or 0) > first > 0, what="a longer time")
    # From what is known, without a request, it goes on as well.
    until(lambda: (working.get_total_time(cached=True) or 0) > first, what="a longer total")
    computed, total = task.get_computation_time(), task.get_total_time()
    assert 0 < (computed or 0) < (total or 0)
    assert (computed, total) == (task.get_computation_time(True), task.get_total_time(True))


@pytest.mark.conforms("Task.download_outputs")
def test_outputs_are_downloaded_in_every_way(task: Task) -> None:
    made = {"log/steps.txt", "out.txt", "stderr.txt", "stdout.txt"}
    whole = task.download_outputs()
    assert whole == Path("simherd_output", task.id, "outputs")
    assert set(files(whole)) == made
    assert not (whole / "output.zip").exists()
    some = task.download_outputs(["log/steps.txt", "std*.txt"], output_dir="some")
    assert some == Path("simherd_output/some")
    assert set(files(some)) == made - {"out.txt"}
    packed = task.download_outputs(uncompress=False, output_dir="packed")
    assert [p.name for p in Path("simherd_output/packed").iterdir()] == ["output.zip"]
    both = task.download_outputs([], "both", rm_downloaded_zip_archive=False)
    assert both is not None
    assert packed is not None
    assert (both / "output.zip").read_bytes() == (packed / "output.zip").read_bytes()
    assert set(files(both)) == made
    # Some files alone leave all of them where they are.
    assert task.download_outputs(["out.txt"], "one", rm_remote_files=True)
    assert task.get_output_url()


@pytest.mark.conforms("Task.download_inputs")
def test_inputs_are_downloaded_in_every_way(task: Task) -> None:
    whole = task.download_inputs()
    assert whole == Path("simherd_output", task.id, "inputs")
    assert files(whole) == GIVEN
    assert files(task.download_inputs(["sub/deep.txt"], input_dir="some")) == {
        "sub/deep.txt": "deep"
    }
    packed = task.download_inputs(uncompress=False, input_dir="packed")
    assert packed is not None
    assert [p.name for p in packed.iterdir()] == ["input.zip"]
    both = task.download_inputs(None, "both", rm_downloaded_zip_archive=False)
    assert files(both) == GIVEN
    assert (Path("simherd_output/both") / "input.zip").exists()


@pytest.mark.conforms(
    *("Task.download_outputs", "Task.download_inputs", "Task.remove_remote_files"),
)
def test_what_was_downloaded_whole_can_be_removed_there(
    env: Env, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (Task(env.submit("cp in.txt out.txt", files=GIVEN)) for _ in range(2))
    for task in (first, second):
        env.wait(task.id)
    assert "out.txt" in files(first.download_outputs(rm_remote_files=True))
    assert files(second.download_inputs(rm_remote_files=True)) == GIVEN
    for task in (first, second):
        assert (task.get_output_url(), task.get_input_url()) == (None, None)
        assert task.download_outputs() is None
    capsys.readouterr()
    assert first.remove_remote_files(verbose=False) is False
    assert capsys.readouterr().out == ""
    assert first.remove_remote_files() is False
    assert "no files in storage" in capsys.readouterr().out


@pytest.mark.conforms("Task.remove_remote_files")
def test_files_are_removed_and_it_is_said(env: Env, capsys: pytest.CaptureFixture[str]) -> None:
    task = Task(env.submit("true", storage_path_prefix="studies/reference"))
    env.wait(task.id)
    capsys.readouterr()
    assert task.remove_remote_files() is True
    assert "were deleted" in capsys.readouterr().out
    assert not list((env.data / "storage").rglob(f"{task.id}/**/*.zip"))


@pytest.mark.conforms(
    *("Task.get_input_url", "Task.get_output_url"),
    *("GET a signed URL", "HEAD a signed URL", "GET a range of a signed URL"),
)
def test_signed_urls_work_for_everybody_who_has_them(task: Task) -> None:
    for url, name in ((task.get_input_url(), "sim_dir/in.txt"), (task.get_output_url(), "")):
        assert url is not None
        content = httpx.get(url, trust_env=False, timeout=60).content
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.read(name or "artifacts/out.txt") == b"data"
        head = httpx.head(url, trust_env=False, timeout=60)
        assert head.headers["content-length"] == str(len(content))
        part = httpx.get(url, headers={"Range": "bytes=2-3"}, trust_env=False, timeout=60)
        assert (part.status_code, part.content) == (206, content[2:4])


@pytest.mark.conforms("Task.get_output_info", "Task.get_output_files_info")
def test_what_was_put_out_is_listed_with_its_sizes(task: Task) -> None:
    info = task.get_output_info()
    sizes = {f.name: f.size for f in info.contents}
    assert (sizes["out.txt"], sizes["log/steps.txt"]) == (4, 51)
    assert info.n_files == 5
    assert info.total_size_bytes == sum(sizes.values())
    assert 0 < info.total_compressed_size_bytes < info.size
    lines = str(task.get_output_files_info()).splitlines()
    assert lines[0].startswith("Archive size: ")
    assert lines[2].split() == ["Size", "Compressed", "Name"]
    assert any(line.split()[-1] == "log/steps.txt" for line in lines)


@pytest.mark.conforms("Task.set_metadata", "Task.get_metadata")
def test_metadata_is_what_was_set_last(task: Task) -> None:
    assert task.get_metadata() == {}
    task.set_metadata({"study": "one", "run": "1"})
    task.set_metadata({"study": "two"})
    assert task.get_metadata() == {"study": "two"}
    number: Any = 1
    with pytest.raises(errors.InvalidInput, match="'run': 1"):
        task.set_metadata({"run": number})


@pytest.mark.conforms("Task.summary", "Task.print_summary")
def test_a_summary_says_what_became_of_it(task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"Task {task.id}: Success" in task.summary
    task.print_summary()
    assert capsys.readouterr().out == f"{task.summary}\n"
    out = io.StringIO()
    task.print_summary(out)
    assert "Computation:" in out.getvalue()
    assert "Outputs: 5 files" in out.getvalue()


@pytest.mark.conforms("Task.summary")
def test_a_summary_is_as_old_as_what_is_known(env: Env) -> None:
    task = Task(env.submit("true"))
    before = task.get_info()["status"]
    env.wait(task.id)
    assert before in task.summary or "Success" not in task.summary
    task.get_info()
    assert "Success" in task.summary


@pytest.mark.conforms("Task.kill")
def test_kill_prints_as_much_as_its_options_ask_for(
    env: Env, capsys: pytest.CaptureFixture[str]
) -> None:
    group = resources.ElasticMachineGroup(
        "local", 0, 1, machines_from="external", spot=False, max_idle_time=None
    )
    group.start()
    said = {}
    for level in (0, 1, 2):
        task = Task(env.submit("true", group=group.name))
        capsys.readouterr()
        assert task.kill(verbosity_level=level) is True
        said[level] = capsys.readouterr().out.replace(task.id, "ID").splitlines()
    group.terminate()
    assert said == {
        0: [],
        1: ["Task ID: Killed."],
        2: ["Asked for task ID to be killed.", "Task ID: Killed."],
    }


def _log(task: Task) -> str:
    said = io.StringIO()
    task.tail_files(["stdout.txt"], fout=said)
    return said.getvalue()


@pytest.mark.conforms("Task.kill")
def test_kill_answers_what_it_knows(env: Env, task: Task) -> None:
    stubborn = "trap '' TERM; echo on; while :; do sleep 0.1; done"
    working = Task(env.submit(f'sh -c "{stubborn}"', more={"stop_grace_s": 3}))
    working.wait_for_status("computation-started", silent_mode=True)
    until(lambda: "on\n" in _log(working), what="its output")
    assert working.kill(wait_timeout=0.2, verbosity_level=0) is False
    assert working.get_status() == "pending-kill"
    assert working.kill(wait_timeout=None, verbosity_level=0) is None
    assert working.kill(wait_timeout=60, verbosity_level=0) is True
    assert working.get_status() == "killed"
    # What has ended by itself was not killed.
    assert task.kill(verbosity_level=0) is False
    with pytest.raises(errors.InvalidInput, match="verbosity_level: 3"):
        task.kill(verbosity_level=3)


@pytest.mark.conforms("Task.list_files")
def test_files_are_listed_as_a_tree(
    running: Running, waiting: list[Task], capsys: pytest.CaptureFixture[str]
) -> None:
    tree, code = Task(running.id).list_files()
    assert code == 0
    assert tree is not None
    assert [line.strip("└├│─ ") for line in tree.splitlines()[:4]] == [
        *("Directory contents:", "bin.dat", "deep", "er")
    ]
    assert capsys.readouterr().out == f"{tree}\n"
    assert waiting[0].list_files() == (None, 1)
    assert "has no files yet" in capsys.readouterr().err


@pytest.mark.conforms("Task.tail_files")
def test_the_ends_of_several_files_are_shown(
    running: Running, waiting: list[Task], capsys: pytest.CaptureFixture[str]
) -> None:
    task, out = Task(running.id), io.StringIO()
    assert task.tail_files(["deep/er/data.txt", "stdout.txt"], 2, False, out) == 0
    shown = out.getvalue()
    assert "==> deep/er/data.txt <==\nline 998\nline 999\n" in shown
    assert "==> stdout.txt <==\n" in shown
    assert "ready\n" in shown
    assert task.tail_files(["deep/er/data.txt"], 1, False) == 0
    assert capsys.readouterr().out == "line 999\n"
    assert task.tail_files(["nothing.txt"], 1, False) == 1
    assert "nothing.txt" in capsys.readouterr().err
    assert waiting[0].tail_files(["stdout.txt"], 1, False) == 1
    assert "has no files yet" in capsys.readouterr().err


@pytest.mark.conforms("Task.tail_files")
def test_files_are_followed_and_waited_for(env: Env) -> None:
    live, out = Running(env), io.StringIO()
    arguments = (["late.txt", "stdout.txt"], 5, True, out, True)
    follower = threading.Thread(target=Task(live.id).tail_files, args=arguments)
    follower.start()
    until(lambda: "ready" in out.getvalue(), what="what is there already")
    live.touch("go")
    until(lambda: "step 1" in out.getvalue(), what="what is added")
    live.touch("late.txt")
    live.stop()
    follower.join()
    assert out.getvalue().endswith("over\n")


@pytest.mark.conforms("Task.close_stream")
def test_a_follower_is_stopped_from_another_thread(running: Running) -> None:
    task, out = Task(running.id), io.StringIO()
    follower = threading.Thread(target=task.tail_files, args=(["stdout.txt"], 5, True, out))
    follower.start()
    until(lambda: "ready" in out.getvalue(), what="its first lines")
    asyncio.run(task.close_stream())
    follower.join(10)  # the server's next sign of life would end it after 15 seconds
    assert not follower.is_alive()
    asyncio.run(task.close_stream())  # where nothing is followed, nothing is stopped


@pytest.mark.conforms("Task.last_modified_file")
def test_the_last_modified_file_is_named(
    running: Running, waiting: list[Task], capsys: pytest.CaptureFixture[str]
) -> None:
    running.touch("newest.txt")
    entry = Task(running.id).last_modified_file()
    assert entry is not None
    assert entry.name == "newest.txt"
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "Most recent file: newest.txt"
    assert shown[1].startswith("Modified at:")
    assert waiting[0].last_modified_file() is None
    assert "has no files yet" in capsys.readouterr().err
