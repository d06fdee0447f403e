"""Looking at a task's files while it runs, and with the same calls afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from tests.support.env import redis_port
from tests.support.sse import events
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.support.env import Env

#: Writes some files, then a line whenever `go` appears, until `stop` does.
SCRIPT = """
import os, pathlib, time
pathlib.Path('deep/er').mkdir(parents=True)
pathlib.Path('deep/er/data.txt').write_text(''.join(f'line {i}\\n' for i in range(1000)))
pathlib.Path('bin.dat').write_bytes(bytes(range(256)) * 40000)
os.symlink('deep/er/data.txt', 'inside')
os.symlink('/etc/passwd', 'outside')
os.symlink('/etc', 'etc')
os.mkfifo('pipe')
print('ready', flush=True)
n = 0
while not os.path.exists('stop'):
    if os.path.exists('go'):
        os.remove('go')
        n += 1
        print(f'step {n} ä', flush=True)
    time.sleep(0.02)
print('over', flush=True)
"""


class Running:
    """A task that writes when it is told to."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.id = env.submit("python3 main.py", files={"main.py": SCRIPT})
        env.wait_for(self.id, "computation-started")
        self.path = f"/v1/tasks/{self.id}"
        until(lambda: "ready" in self.tail("stdout.txt"), what="its first line")

    def get(self, what: str, **params: Any) -> httpx.Response:
        return self.env.api.get(f"{self.path}/{what}", params=params)

    def tail(self, name: str, lines: int = 10) -> str:
        (row,) = self.get("files/tail", file=name, lines=lines).json()["files"]
        return str(row["text"])

    def touch(self, name: str) -> None:
        (work,) = (self.env.data / "machines").glob(f"*/attempts/*{self.id}*/work")
        (work / name).touch()

    def stop(self) -> dict[str, Any]:
        self.touch("stop")
        return self.env.wait(self.id)


@pytest.fixture(scope="module")
def running(env: Env) -> Iterator[Running]:
    task = Running(env)
    yield task
    task.stop()


def test_files_are_listed_with_their_sizes(running: Running) -> None:
    found = running.get("files").json()
    assert found["source"] == "live"
    assert not found["truncated"]
    kinds = {e["name"]: (e["kind"], e["size"]) for e in found["entries"]}
    assert kinds["deep"][0] == "folder"
    assert kinds["bin.dat"] == ("file", 256 * 40000)
    assert kinds["outside"][0] == "link"
    assert kinds["pipe"][0] == "other"
    assert "deep/er/data.txt" in kinds


def test_the_last_lines_of_any_file_are_shown(running: Running) -> None:
    assert running.tail("deep/er/data.txt", 2) == "line 998\nline 999\n"
    assert running.tail("inside", 1) == "line 999\n"
    assert running.tail("deep/er/data.txt", 0) == ""
    assert running.tail("deep/er/data.txt", 5000).count("\n") == 1000


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nothing.txt", "not_found"),
        ("deep", "not_a_file"),
        ("pipe", "not_a_file"),
        ("bin.dat", "not_text"),
        ("../../../../etc/passwd", "invalid"),
        ("/etc/passwd", "invalid"),
        ("outside", "invalid"),
        ("etc/passwd", "invalid"),
        ("deep/../../../agent.pid", "invalid"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_reason(
    running: Running, name: str, code: str
) -> None:
    (row,) = running.get("files/tail", file=name).json()["files"]
    assert (row["code"], row["text"]) == (code, "")
    assert row["detail"]
    fetched = running.get("files/content", file=name)
    if code != "not_text":
        assert fetched.status_code in {404, 422}
        assert "root:" not in fetched.text


def test_a_name_with_a_nul_is_refused(running: Running) -> None:
    for path in ("files/tail", "files/content"):
        assert running.get(path, file="a\0b").status_code == 400


def test_a_file_is_fetched_while_it_runs_and_leaves_nothing_behind(running: Running) -> None:
    found = running.get("files/content", file="bin.dat")
    assert found.content == bytes(range(256)) * 40000
    storage = running.env.data / "storage"
    until(lambda: not [p for p in storage.rglob("live/*/*") if p.is_file()], what="no slice")


def test_the_processes_are_shown(running: Running) -> None:
    text = running.get("top").json()["text"]
    assert "python3 main.py" in text
    assert "%CPU" in text


def test_the_file_that_was_written_last_is_named(running: Running) -> None:
    running.touch("go")
    until(lambda: "step" in running.tail("stdout.txt"), what="a line")
    found = running.get("files/last-modified").json()
    assert found["entry"]["name"] == "stdout.txt"
    assert found["now"] >= found["entry"]["modified_at"]


def test_somebody_elses_task_has_no_files(running: Running, env: Env) -> None:
    for path in ("files", "files/tail?file=a", "files/content?file=a", "top", "follow"):
        assert env.api.get(f"/v1/tasks/{'z' * 25}/{path}").status_code == 404


def test_a_task_is_followed_from_its_queue_to_its_end(env: Env) -> None:
    """Also one whose machines are not there yet."""
    group = env.api.post("/compute/group", json={"machine_type": "local", "name": "later"}).json()
    task_id = env.submit("sh -c 'echo one; echo two >&2; echo three'", group="later")
    with events(env, f"/v1/tasks/{task_id}/follow?file=stdout.txt&file=stderr.txt") as news:
        first = next(news)
        assert first[0] == "status"
        assert first[1]["status"] == "submitted"
        assert next(news) == ("position", {"tasks_ahead": 0})
        env.api.post("/compute/group/start", params={"machine_group_id": group["id"]})
        rest = list(news)
    env.api.delete("/compute/group", params={"machine_group_id": group["id"]})
    texts = [body for name, body in rest if name == "text"]
    stdout = "".join(b["text"] for b in texts if b["file"] == "stdout.txt")
    assert [x for x in stdout.splitlines() if not x.startswith("#")] == ["one", "three"]
    assert "two" in "".join(b["text"] for b in texts if b["file"] == "stderr.txt")
    assert rest[-1] == ("end", rest[-1][1])
    assert rest[-1][1]["status"] == "success"


def test_what_is_added_arrives_and_is_the_same_afterwards(env: Env) -> None:
    task = Running(env)
    with events(env, f"{task.path}/follow?file=stdout.txt&lines=1&file=late.txt") as news:
        text = ""
        for name, body in news:
            if name == "text" and body["file"] == "stdout.txt":
                text += body["text"]
                if text.endswith("ready\n"):
                    task.touch("go")
                if text.endswith("step 1 ä\n"):
                    task.touch("late.txt")
                    task.touch("stop")
        assert text.endswith("ready\nstep 1 ä\nover\n")
    env.wait(task.id)
    saved = task.get("files/tail", file="stdout.txt", lines=2).json()
    assert saved["source"] == "saved"
    assert saved["files"][0]["text"] == "step 1 ä\nover\n"
    listed = task.get("files").json()
    assert listed["source"] == "saved"
    assert "deep/er/data.txt" in [e["name"] for e in listed["entries"]], listed
    assert task.get("files/content", file="deep/er/data.txt").text.startswith("line 0\n")
    assert task.get("files/content", file="../x").status_code == 404
    assert task.get("top").status_code == 409
    # Archives know whole seconds: among files of one second the first is named.
    found = task.get("files/last-modified").json()
    assert (found["source"], found["entry"]["kind"]) == ("saved", "file")


def test_a_response_that_no_client_reads_ends(env: Env) -> None:
    task = Running(env)
    with events(env, f"{task.path}/follow?file=stdout.txt") as news:
        next(news)
        until(lambda: live_keys(env), what="the stream of an answer")
    until(lambda: not live_keys(env), what="the end of the stream")
    task.stop()


def live_keys(env: Env) -> list[str]:
    """The answers that are under way."""
    password = (env.data / "run" / "redis_password").read_text()
    client = redis.Redis(port=redis_port(env.data), password=password)
    return [str(key) for key in client.scan_iter("simherd:*:live:*")]


def test_many_are_waited_for_at_once(env: Env) -> None:
    ids = [env.submit("true"), env.submit("false"), env.submit("true")]
    found: dict[str, str] = {}
    with events(env, "/v1/tasks/changes", {"ids": ids}) as news:
        for name, body in news:
            if name == "task":
                found[body["task_id"]] = body["status"]
    assert found == dict(zip(ids, ["success", "failed", "success"], strict=True))
    refused = env.api.post("/v1/tasks/changes", json={"ids": [*ids, "z" * 25]})
    assert refused.status_code == 404
