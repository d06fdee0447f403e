"""Live files as the published client sees them: over WebRTC, in a network with one address."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis

from scheduler.bridge.connections import BRIDGE_MAX_PER_USER
from simherd.contract import limits
from tests.conftest import missing
from tests.support.channel import an_offer, another_api, asked, offered, reply
from tests.support.env import Env, redis_port
from tests.support.network import own_network
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.slow

_ADDRESS = "10.77.3.1"
#: Writes a line whenever `go` appears, until `stop` does.
_SCRIPT = """
import os, pathlib, time
pathlib.Path('deep/er').mkdir(parents=True)
pathlib.Path('deep/er/data.txt').write_text(''.join(f'line {i}\\n' for i in range(1000)))
pathlib.Path('empty').mkdir()
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


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[None]:
    """The module's tests, and what they start, in a separate network."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        missing("a separate network needs root and `ip` (apt-get install iproute2)")
    with own_network(_ADDRESS):
        yield


@pytest.fixture(scope="module")
def reached(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Env]:
    """A Simherd at an address that WebRTC takes."""
    folder = tmp_path_factory.mktemp("webrtc")
    made = Env(folder, "--host", _ADDRESS, "--backend", "process", "--slots", "4")
    made.start()
    yield made
    made.stop()


class Running:
    """A task that writes when it is told to."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.id = env.submit("python3 main.py", files={"main.py": _SCRIPT})
        env.wait_for(self.id, "computation-started")
        until(lambda: "ready" in self._stdout(), what="its first line")

    def _work(self) -> Path:
        (work,) = (self.env.data / "machines").glob(f"*/attempts/*{self.id}*/work")
        return work

    def _stdout(self) -> str:
        file = self._work() / "stdout.txt"
        return file.read_text() if file.exists() else ""

    def touch(self, name: str) -> None:
        (self._work() / name).touch()

    def write(self, name: str, text: str) -> None:
        (self._work() / name).write_text(text)


@pytest.fixture(scope="module")
def running(reached: Env) -> Iterator[Running]:
    task = Running(reached)
    yield task
    task.touch("stop")
    reached.wait(task.id)


@contextmanager
def client(env: Env, script: str) -> Iterator[subprocess.Popen[str]]:
    """A user's script with the published client."""
    with subprocess.Popen(
        [sys.executable, "-c", f"import inductiva, sys\n{script}"],
        cwd=env.folder,
        env={**env.environment, **env.connection, "INDUCTIVA_DISABLE_IMPORT_INFO": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def commands(*lines: str) -> str:
    """A script that runs commands of the published client in one process: it starts slowly."""
    return f"""
from inductiva._cli import main
for line in {lines!r}:
    sys.argv = ["inductiva", *line.split()]
    print("CODE", main(), flush=True)
"""


@pytest.mark.conforms(
    "tasks list-files", "tasks tail", "tasks top", "tasks last-modified-file", face="inductiva"
)
def test_its_commands_show_a_running_tasks_files(reached: Env, running: Running) -> None:
    script = commands(
        f"tasks list-files {running.id}",
        f"tasks tail {running.id} deep/er/data.txt -l 2",
        f"tasks top {running.id}",
        f"tasks last-modified-file {running.id}",
    )
    with client(reached, script) as process:
        seen = process.communicate()[0]
    assert seen.count("CODE 0") == 4, seen
    listed, tail, top, last, _ = seen.split("CODE 0")
    assert "deep/\n└── deep/er/\n│   └── deep/er/data.txt\n" in listed
    assert "empty/" in listed
    assert "│line 998\n│line 999\n" in tail
    assert "python3 main.py" in top
    assert "Most Recent File: " in last
    assert "Time Since Last Modification: " in last


@pytest.mark.conforms(
    *("Task.list_files", "Task.tail_files", "Task.last_modified_file"),
    *("POST /tasks/{task_id}/register", "POST /tasks/{task_id}/offer"),
    "GET /tasks/{task_id}/message",
    face="inductiva",
)
def test_its_methods_show_a_running_tasks_files(reached: Env, running: Running) -> None:
    script = f"""
task = inductiva.tasks.Task("{running.id}")
print(task.list_files())
task.tail_files(["deep/er/data.txt", "stdout.txt"], 1, False)
task.tail_files(["nothing.txt"], 1, False)
task.tail_files(["../../x"], 1, True)
task.tail_files(["stdout.txt"], -1, False)
print(task.last_modified_file())
"""
    with client(reached, script) as process:
        seen = process.communicate()[0]
    assert process.returncode == 0, seen
    assert "deep/er/data.txt" in seen
    assert "│line 999\n" in seen
    assert "│ready\n" in seen
    assert "nothing.txt" in seen
    assert "lines: must be 0 to" in seen
    assert "Most Recent File: " in seen


@pytest.mark.conforms("logs", "Task.tail_files", face="inductiva")
def test_what_is_written_is_followed_until_the_task_ends(reached: Env) -> None:
    task = Running(reached)
    script = f"""
task = inductiva.tasks.Task("{task.id}")
task.tail_files(["late.txt", "stdout.txt"], 5, True, wait=True)
"""
    with (
        client(reached, commands(f"logs {task.id} --no-color")) as logs,
        client(reached, script) as waiting,
    ):
        read_until(logs, "ready")
        read_until(waiting, "ready")
        task.touch("go")
        read_until(logs, "step 1 ä")
        task.write("late.txt", "it came\n")
        read_until(waiting, "it came")
        task.touch("stop")
        read_until(logs, "over")
        read_until(waiting, "over")
        assert (logs.wait(60), waiting.wait(60)) == (0, 0)
    reached.wait(task.id)


def read_until(process: subprocess.Popen[str], line: str) -> None:
    """Read what a client prints up to a line of a file."""
    assert process.stdout is not None
    seen = ""
    for printed in process.stdout:
        seen += printed
        if printed == f"│{line}\n":
            return
    raise AssertionError(f"{line!r} is not in what it printed:\n{seen}")


@pytest.mark.conforms(
    *("POST /tasks/{task_id}/register", "POST /tasks/{task_id}/offer"),
    "GET /tasks/{task_id}/message",
)
def test_replies_have_the_shapes_of_the_contract(reached: Env, running: Running) -> None:
    listed = reply(reached, running.id, {"type": "ls", "follow": False, "args": {}})
    assert listed["status"] == "success"
    assert {"deep": [{"er": ["data.txt"]}]} in listed["message"]
    assert {"empty": []} in listed["message"]
    assert "stdout.txt" in listed["message"]
    arguments = {"filename": "deep/er/data.txt", "lines": 2, "wait": False}
    tail = reply(reached, running.id, {"type": "tail", "follow": False, "args": arguments})
    assert tail == {"status": "success", "message": ["line 998", "line 999"]}
    last = reply(reached, running.id, {"type": "last_modified_file", "args": {}})["message"]
    since = last["now_timestamp"] - last["most_recent_timestamp"]
    assert last["time_since_last_mod"] == pytest.approx(since)
    assert last["most_recent_file"]


@pytest.mark.parametrize(
    ("request_", "status", "word"),
    [
        ({"type": "rm", "args": {}}, "invalid", "type: "),
        ({"type": "tail", "args": {"lines": 5}}, "invalid", "filename: "),
        ({"type": "tail", "args": {"filename": "a", "lines": 1e9}}, "invalid", "lines: "),
        (["ls"], "invalid", "request: "),
        ({"type": "tail", "args": {"filename": "no.txt"}}, "error", "no.txt"),
        ({"type": "tail", "args": {"filename": "no.txt"}, "follow": True}, "error", "no.txt"),
        ({"type": "tail", "args": {"filename": "../../x"}}, "error", "../../x"),
    ],
)
def test_what_cannot_be_answered_is_said(
    reached: Env, running: Running, request_: Any, status: str, word: str
) -> None:
    found = reply(reached, running.id, request_)
    assert found["status"] == status
    assert word in found["message"]


def test_a_long_list_and_a_long_tail_are_one_message(reached: Env) -> None:
    task_id = reached.submit(
        {"cmd": "python3 make.py"},
        files={
            "make.py": """
import os, time
os.mkdir('many')
for i in range(9000):
    open(f'many/a_file_with_a_rather_long_name_{i:05}.txt', 'w').close()
with open('long.txt', 'w') as file:
    file.writelines(f'line {i} ' + 'ä' * 100 + '\\n' for i in range(5000))
print('made', flush=True)
while not os.path.exists('stop'):
    time.sleep(0.02)
"""
        },
    )
    reached.wait_for(task_id, "computation-started")
    made = {"type": "tail", "args": {"filename": "stdout.txt"}}
    until(lambda: "made" in reply(reached, task_id, made)["message"], what="its files")
    listed = reply(reached, task_id, {"type": "ls", "args": {}})["message"]
    (many,) = (node["many"] for node in listed if isinstance(node, dict) and "many" in node)
    assert len(many) > 3000
    assert "not all are shown" in listed[-1]
    arguments = {"filename": "long.txt", "lines": 4000}
    lines = reply(reached, task_id, {"type": "tail", "args": arguments})["message"]
    assert lines[-1] == "line 4999 " + "ä" * 100
    assert 100 < len(lines) <= 4000
    reached.api.post(f"/tasks/{task_id}/kill")
    reached.wait(task_id)


def test_a_client_that_does_not_read_stops_what_is_sent(reached: Env) -> None:
    """What it has not read stays in the file: neither the API nor Redis collects it."""
    script = """
import os, time
with open('log.txt', 'w', buffering=1) as log:
    while not os.path.exists('stop'):
        log.write('x' * 200_000 + '\\n')
        time.sleep(0.01)
    log.write('the end\\n')
"""
    task_id = reached.submit("python3 main.py", files={"main.py": script})
    reached.wait_for(task_id, "computation-started")
    arguments = {"filename": "log.txt", "lines": 1, "wait": True}
    request = json.dumps({"type": "tail", "follow": True, "args": arguments})

    async def follow() -> list[str]:
        async with asked(reached, task_id, request) as replies:
            await asyncio.wait_for(replies.get(), 60)
            # Nothing is read meanwhile: this holds up the event loop.
            until(lambda: waiting_frames(reached) >= limits.LIVE_WINDOW - 1, what="full frames")
            (work,) = (reached.data / "machines").glob(f"*/attempts/*{task_id}*/work")
            # More than all that lies on the way, and is still shown of what lies behind.
            most = 16 * limits.LIVE_BACKLOG_BYTES
            until(lambda: (work / "log.txt").stat().st_size > most, what="a long file")
            (work / "stop").touch()
            lines: list[str] = []
            while (found := await asyncio.wait_for(replies.get(), 60)) is not None:
                assert found["status"] == "success"
                lines += found["message"]
            return lines

    lines = asyncio.run(follow())
    assert lines[-1] == "the end"
    assert any("bytes are left out" in line for line in lines)


def waiting_frames(env: Env) -> int:
    """Frames of the only answer that is under way which nobody has taken."""
    password = (env.data / "run" / "redis_password").read_text()
    with redis.Redis(port=redis_port(env.data), password=password) as client:
        return sum(int(client.xlen(key)) for key in client.scan_iter("simherd:*:live:*"))


@pytest.mark.conforms(
    *("POST /tasks/{task_id}/register", "POST /tasks/{task_id}/offer"),
    *("GET /tasks/{task_id}/message", "7.11"),
)
def test_who_may_connect(reached: Env, running: Running) -> None:
    nobodys = "z" * 25
    for method, verb in (("POST", "register"), ("POST", "offer"), ("GET", "message")):
        body = {"sender_id": "me"} if method == "POST" else None
        path = f"/tasks/{nobodys}/{verb}"
        found = reached.api.request(method, path, json=body, params={"client": "me"})
        assert found.status_code == 404, path
    path = f"/tasks/{running.id}"
    nothing = reached.api.get(f"{path}/message", params={"client": "me", "block_s": 0})
    assert nothing.status_code == 204
    unknown = {"sender_id": "x", "receiver_id": running.id, "type": "offer", "sdp": "v=0"}
    assert reached.api.post(f"{path}/offer", json=unknown).status_code == 409


@pytest.mark.parametrize("cut", ["candidate", "media", "ufrag", "nonsense"])
def test_an_offer_that_leads_nowhere_is_refused(reached: Env, running: Running, cut: str) -> None:
    whole = asyncio.run(an_offer())
    offer = {
        "candidate": "".join(x for x in whole.splitlines(True) if "a=candidate" not in x),
        "media": whole + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n",
        "ufrag": "".join(x for x in whole.splitlines(True) if "a=ice-" not in x),
        "nonsense": "m=application\na=candidate:",
    }[cut]
    refused = offered(reached.api, running.id, offer, "me")
    assert refused.status_code == 422, refused.text
    assert refused.json()["detail"].startswith("sdp: ")


def test_another_channel_is_not_answered(reached: Env, running: Running) -> None:
    async def ask() -> object:
        async with asked(reached, running.id, '{"type": "ls"}', "something") as replies:
            return await asyncio.wait_for(replies.get(), 60)

    assert asyncio.run(ask()) is None


def test_any_api_process_hands_over_the_answer_and_closes_what_it_has_as_it_ends(
    reached: Env, running: Running
) -> None:
    arguments = {"filename": "deep/er/data.txt", "lines": 1}
    request = json.dumps({"type": "tail", "follow": True, "args": arguments})

    async def follow(process: subprocess.Popen[bytes], api: httpx.Client) -> None:
        async with asked(reached, running.id, request, offered_to=api) as replies:
            first = await asyncio.wait_for(replies.get(), 60)
            assert first == {"status": "success", "message": ["line 999"]}
            process.terminate()
            assert await asyncio.wait_for(replies.get(), 60) is None

    with another_api(reached, _ADDRESS) as (process, api):
        asyncio.run(follow(process, api))
        assert process.wait(60) in {0, -signal.SIGTERM}


def test_nothing_is_left_of_a_connection(reached: Env, running: Running) -> None:
    assert reply(reached, running.id, {"type": "top", "args": {}})["status"] == "success"
    api = reached.part("api")
    until(lambda: not api.net_connections("udp"), what="no socket of a connection")


def test_one_user_has_so_many_connections(reached: Env, running: Running) -> None:
    """The last test: these are closed as the API ends."""
    sdp = asyncio.run(an_offer())
    codes: list[int] = []
    # Who never connects is let go after a while: on a slow machine the first ones already.
    while 429 not in codes and len(codes) < 3 * BRIDGE_MAX_PER_USER:
        name = f"client-{len(codes)}"
        codes.append(offered(reached.api, running.id, sdp, name).status_code)
    assert len(codes) > BRIDGE_MAX_PER_USER
    assert codes == [200] * (len(codes) - 1) + [429]
