"""`Task` of the published client, unmodified, method by method as its class reference has it.

What it shows of running tasks' files is in the tests of the WebRTC bridge. All calls are made by
one process: the client takes seconds to import.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.env import zipped
from tests.support.proxy import Proxy
from tests.support.waits import until
from tests.support.web import web_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.env import Env

pytestmark = pytest.mark.slow

SCRIPT = """
import asyncio, io, json, os, pathlib, signal, sys, time, urllib.request, zipfile
import inductiva
from inductiva.client import exceptions
from inductiva.tasks import Task

given, seen = json.loads(os.environ["GIVEN"]), {}
task, working = Task(given["ended"]), Task(given["running"])
waiting = Task(given["waiting"])

def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_text()
            for p in sorted(pathlib.Path(folder).rglob("*")) if p.suffix == ".txt"}

def refused(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except Exception as error:
        return [type(error).__name__, str(error)]

# What is known of it.
tasks = (waiting, working, task)
seen["stand"] = [[t.get_status().value, t.is_running(), t.is_terminal(), t.is_failed(),
                  t.get_position_in_queue(), t.get_machine_type(), t.get_computation_time(),
                  t.get_total_time(), t.get_storage_path(), t.get_simulator_name()] for t in tasks]
seen["cached"] = task.info is task.info and task.get_computation_time(cached=True)
task.set_metadata({"study": "one", "run": "1"})
task.set_metadata({"study": "two"})
seen["metadata"] = task.get_metadata()
seen["info"] = str(task.get_output_info())
seen["urls"] = [urllib.request.urlopen(u).read(2).decode()
                for u in (task.get_input_url(), task.get_output_url())]
out = io.StringIO()
task.print_summary(out)
seen["summary"] = [task.summary, out.getvalue()]
(row,) = inductiva.tasks.get(1, status="success", project="their reference")
seen["row"] = [row.id, row.info.task_id, row.get_status().value]
seen["all"] = [[t.id for t in inductiva.tasks.get_all(project="their reference")],
               [t.id for t in inductiva.tasks.get_tasks(0, project="their reference")],
               [t.id for t in inductiva.tasks.get_tasks(1, project="their reference")]]
seen["table"] = {k: v[0] for k, v in inductiva.tasks.to_dict([row]).items() if v[0]}
seen["older"] = refused(lambda: task.get_output_files_info())
asyncio.run(task.close_stream())

# Its files.
seen["folder"] = inductiva.get_output_dir()
inductiva.set_output_dir("vault")
seen["vault"] = [inductiva.get_output_dir(), str(task.download_outputs())]
seen["outputs"] = [
    files(f"vault/{task.id}/outputs"),
    files(task.download_outputs(["log/steps.txt"], "some")),
    sorted(os.listdir(task.download_outputs(uncompress=False, output_dir="packed"))),
    sorted(os.listdir(task.download_outputs([], "both", rm_downloaded_zip_archive=False)))]
seen["inputs"] = [
    files(task.download_inputs()),
    files(task.download_inputs(["sub/deep.txt"], "some-in")),
    sorted(os.listdir(task.download_inputs(uncompress=False, input_dir="packed-in"))),
    sorted(os.listdir(task.download_inputs(None, "both-in", rm_downloaded_zip_archive=False)))]
spare = Task(given["spare"])
seen["spare"] = [files(spare.download_outputs(output_dir="gone", rm_remote_files=True)),
                 spare.remove_remote_files(), spare.remove_remote_files(verbose=False)]
other = Task(given["other"])
seen["other"] = [other.remove_remote_files(), refused(other.get_output_url)[0]]

# Waiting for it, and ending it.
slow = Task(given["slow"])
seen["waited"] = slow.wait(polling_period=1, silent_mode=True,
                           download_std_on_completion=False).value
seen["std"] = [slow.wait(silent_mode=True).value, files(f"vault/{slow.id}/outputs")]
seen["reached"] = working.wait_for_status("computation-started", silent_mode=True).value
seen["kills"] = [working.kill(wait_timeout=None, verbosity_level=0),
                 working.kill(wait_timeout=60, verbosity_level=1), working.kill(),
                 task.kill(verbosity_level=2), waiting.kill(verbosity_level=0)]
seen["wrong"] = [refused(task.kill, wait_timeout=-1)[0], refused(task.kill, verbosity_level=3)[0]]
stopped = Task(given["stopped"])
with stopped.sync_context():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
seen["stopped"] = stopped.wait(silent_mode=True, download_std_on_completion=False).value

# What the server has to look out for.
seen["unknown"] = refused(Task("0" * 25).get_info)
seen["detail"] = refused(inductiva.client.TasksApi(inductiva.api.get_client()).get_task_status,
                         "0" * 25)
try:
    Task("0" * 25).get_status()
except exceptions.ApiException:
    sys.excepthook(*sys.exc_info())
seen["log"] = pathlib.Path("~/.inductiva/inductiva.log").expanduser().read_text()
group = inductiva.resources.MachineGroup("c2-standard-4", auto_terminate_minutes=5)
seen["limit"] = str(group.auto_terminate_ts)
group.start()
group.terminate()
seen["again"] = refused(group.terminate)
many = [f"their/{'x' * 60}/{n}.txt" for n in range(600)]
urls = inductiva.storage.get_signed_urls(paths=many, operation="upload")
seen["many"] = all(path in url for path, url in zip(many, urls, strict=True))
inductiva.storage.download("theirs/output.zip/sub/b.txt", "inner")
seen["inner"] = [p.read_text() for p in pathlib.Path("inner").rglob("b.txt")]
inductiva.storage.storage.multipart_upload(
    "theirs/a.bin", 8,
    [{"part_number": 1, "part_url": f"{given['web']}/their/1"}],
    f"{given['web']}/their/whole")

# Logging in and out, by its commands.
sys.argv = ["inductiva", "auth", "login", "--no-examples"]
sys.stdin = io.StringIO(given["key"] + "\\n")
from inductiva._cli.main import main
main()
kept = pathlib.Path("~/.inductiva/api_key").expanduser()
seen["key"] = kept.read_text()
sys.argv = ["inductiva", "auth", "logout"]
main()
seen["left"] = kept.exists()
print("SEEN " + json.dumps(seen, default=str))
"""


class Flaky:
    """Where a server is, of which the first connection breaks off."""

    def __init__(self, env: Env) -> None:
        host, _, port = env.url.removeprefix("http://").partition(":")
        self.address = (host, int(port))
        self.broken = 0

    def __call__(self) -> tuple[str, int]:
        if not self.broken:
            self.broken += 1
            raise OSError
        return self.address


@pytest.fixture(scope="module")
def given(env: Env) -> Iterator[dict[str, str]]:
    """The ids of the tasks that the script deals with."""
    group = env.api.post("/compute/group", json={"machine_type": "local", "name": "theirs"}).json()
    files = {"in.txt": "data", "sub/deep.txt": "deep"}
    made = {
        "ended": env.submit(
            *("cp in.txt out.txt", "sh -c 'mkdir log; seq 20 > log/steps.txt'"),
            files=files,
            project="their reference",
        ),
        "spare": env.submit("cp in.txt out.txt", files=files),
        "other": env.submit("true", storage_path_prefix="theirs/deep"),
        "waiting": env.submit("true", group="theirs"),
        "slow": env.submit("echo said"),
        "running": env.submit("sleep 600"),
        "stopped": env.submit("sleep 600"),
    }
    for name in ("ended", "spare", "other"):
        env.wait(made[name])
    env.wait_for(made["running"], "computation-started")
    for path, data in (
        ("theirs/output.zip", zipped({"sub/b.txt": "second"}, "artifacts/")),
        ("theirs/a.bin", b"01234567"),
    ):
        query = {"operation": "upload", "paths": path}
        (url,) = env.api.get("/storage/signed-urls", params=query).json()
        assert httpx.put(url, content=data, trust_env=False, timeout=60).status_code == 200
    yield made
    env.api.delete("/compute/group", params={"machine_group_id": group["id"]})
    env.api.delete("/storage/", params={"path": "theirs"})


@pytest.fixture(scope="module")
def seen(
    env: Env, given: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the script has seen, by way of a connection that breaks off the first time."""
    folder, flaky = tmp_path_factory.mktemp("theirs"), Flaky(env)
    proxy = Proxy(flaky)
    try:
        with web_server() as web:
            told = {**given, "web": web.url, "key": env.key}
            out = env.python(
                SCRIPT,
                folder,
                GIVEN=json.dumps(told),
                HOME=str(folder),
                INDUCTIVA_API_URL=f"http://127.0.0.1:{proxy.port}",
            )
            until(lambda: "/their/whole" in web.stored, what="the export")
            stored = dict(web.stored)
    finally:
        proxy.close()
    found: dict[str, Any] = json.loads(out.rpartition("SEEN ")[2])
    return {**given, **found, "stored": stored, "broken": flaky.broken}


OUTPUTS = ["log/steps.txt", "out.txt", "stderr.txt", "stdout.txt"]
INPUTS = {"in.txt": "data", "sub/deep.txt": "deep"}


def shows(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.conforms(*names, face="inductiva")


@shows("tasks.Task", "Task.get_status", "Task.is_running", "Task.is_terminal", "Task.is_failed")
@shows("Task.get_position_in_queue", "Task.get_machine_type", "Task.get_computation_time")
@shows("Task.get_total_time", "Task.get_storage_path", "Task.get_simulator_name", "Task.info")
@shows("Task.get_info", "GET /tasks/{task_id}", "GET /tasks/{task_id}/status")
def test_where_tasks_stand(seen: dict[str, Any]) -> None:
    waiting, working, ended = seen["stand"]
    assert waiting[:7] == ["submitted", False, False, False, 0, None, None]
    assert working[:6] == ["computation-started", True, False, False, None, "LOCAL-local"]
    assert ended[:6] == ["success", False, True, False, None, "LOCAL-local"]
    assert working[6] > 0
    assert 0 < ended[6] < ended[7]
    assert seen["cached"] == ended[6]
    assert [ended[8], ended[9]] == [seen["ended"], "arbitrary_commands"]


@shows("Task.set_metadata", "Task.get_metadata", "Task.summary", "Task.print_summary")
@shows("Task.get_output_info", "Task.get_input_url", "Task.get_output_url", "Task.close_stream")
@shows("PUT /tasks/{task_id}/metadata", "GET /tasks/{task_id}/metadata", "GET a signed URL")
def test_what_is_shown_of_a_task(seen: dict[str, Any]) -> None:
    assert seen["metadata"] == {"study": "two"}
    assert seen["urls"] == ["PK", "PK"]
    assert "log/steps.txt" in seen["info"]
    assert all("Success" in text for text in seen["summary"])
    assert seen["older"][0] == "AttributeError"


@shows("tasks.get", "tasks.get_all", "tasks.get_tasks", "tasks.to_dict", "Task.from_api_info")
@shows("GET /tasks", "7.17")
def test_tasks_are_found(seen: dict[str, Any]) -> None:
    assert seen["row"] == [seen["ended"], seen["ended"], "success"]
    assert seen["all"] == [[seen["ended"]]] * 3
    assert seen["table"]["ID"] == seen["ended"]
    assert seen["table"]["Resource Type"] == "LOCAL local"


@shows("get_output_dir", "set_output_dir", "Task.download_outputs", "Task.download_inputs")
@shows("HEAD a signed URL", "GET a range of a signed URL", "7.14")
def test_files_are_downloaded_in_every_way(seen: dict[str, Any]) -> None:
    assert seen["folder"] == "inductiva_output"
    assert seen["vault"] == ["vault", f"vault/{seen['ended']}/outputs"]
    whole, some, packed, both = seen["outputs"]
    assert sorted(whole) == OUTPUTS
    assert list(some) == ["log/steps.txt"]
    assert packed == ["output.zip"]
    assert {"output.zip", "log", "out.txt"} <= set(both)
    whole, some, packed, both = seen["inputs"]
    assert {name.removeprefix("sim_dir/"): text for name, text in whole.items()} == INPUTS
    assert [text for text in some.values()] == ["deep"]
    assert packed == ["input.zip"]
    assert "input.zip" in both


@shows("Task.remove_remote_files", "Task.download_outputs", "DELETE /storage/", "7.18")
def test_files_are_removed_there(seen: dict[str, Any]) -> None:
    downloaded, *removed = seen["spare"]
    assert downloaded["out.txt"] == "data"
    assert removed == [False, False]
    assert seen["other"] == [True, "ApiException"]


@shows("Task.wait", "Task.wait_for_status")
def test_the_end_is_waited_for(seen: dict[str, Any]) -> None:
    assert seen["waited"] == "success"
    status, std = seen["std"]
    assert status == "success"
    assert "said" in std["stdout.txt"]
    assert "stderr.txt" in std
    assert seen["reached"] == "computation-started"


@shows("Task.kill", "Task.sync_context", "POST /tasks/{task_id}/kill")
def test_tasks_are_killed(seen: dict[str, Any]) -> None:
    assert seen["kills"] == [None, True, True, False, True]
    assert seen["wrong"] == ["ValueError", "ValueError"]
    assert seen["stopped"] == "killed"


@shows("7.9", "7.10")
def test_refusals_reach_its_user(seen: dict[str, Any]) -> None:
    # It looks at no code, and takes the `status` of the problem's details for the task's own.
    assert seen["unknown"] == ["ValueError", "404 is not a valid TaskStatusCode"]
    name, text = seen["detail"]
    assert name == "NotFoundException"
    assert "there is no task" in text
    assert "ERROR: task_id: there is no task" in seen["log"]


@shows("7.26", "7.16", "POST /storage/export_multipart")
def test_bugs_of_an_observer_do_no_harm(seen: dict[str, Any]) -> None:
    assert seen["limit"] == "None"  # auto_terminate_minutes is not sent
    assert seen["again"][0] == "ConflictException"
    assert seen["inner"] == ["second"]
    assert seen["stored"]["/their/1"] == b"01234567"


@shows("7.20", "GET /storage/signed-urls")
def test_very_many_paths_are_signed(seen: dict[str, Any]) -> None:
    assert seen["many"] is True


@shows("7.25")
def test_a_connection_that_breaks_off_does_no_harm(seen: dict[str, Any]) -> None:
    assert seen["broken"] == 1


@shows("auth login", "auth logout")
def test_its_login_keeps_the_key_until_it_logs_out(env: Env, seen: dict[str, Any]) -> None:
    assert (seen["key"], seen["left"]) == (env.key, False)
