"""Live files as the published client sees them: over WebRTC, in a network with one address."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import missing
from tests.support.env import Env
from tests.support.network import own_network
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """The module's tests, and what they start, in a network of their own."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        missing("a network of its own needs root and `ip` (apt-get install iproute2)")
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
def client(env: Env, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """The published client at work."""
    with subprocess.Popen(
        argv,
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


def command(*arguments: str) -> tuple[str, ...]:
    """The published client's command line."""
    return (str(Path(sys.executable).with_name("inductiva")), *arguments)


def python(script: str) -> tuple[str, ...]:
    """A user's script."""
    return (sys.executable, "-c", f"import inductiva, io, sys\n{script}")


@pytest.mark.conforms(
    "tasks list-files", "tasks tail", "tasks top", "tasks last-modified-file", face="inductiva"
)
def test_its_commands_show_a_running_tasks_files(reached: Env, running: Running) -> None:
    with (
        client(reached, *command("tasks", "list-files", running.id)) as listed,
        client(reached, *command("tasks", "tail", running.id, "deep/er/data.txt", "-l2")) as tail,
        client(reached, *command("tasks", "top", running.id)) as top,
        client(reached, *command("tasks", "last-modified-file", running.id)) as last,
    ):
        names, lines, processes, newest = (p.communicate()[0] for p in (listed, tail, top, last))
    assert "deep/" in names
    assert "├── deep/er/" in names or "└── deep/er/" in names, names
    assert "deep/er/data.txt" in names
    assert "empty/" in names
    assert "│line 998\n│line 999\n" in lines
    assert "python3 main.py" in processes
    assert "Most Recent File: " in newest
    assert "Time Since Last Modification: " in newest


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
    with client(reached, *python(script)) as process:
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
        client(reached, *command("logs", task.id, "--no-color")) as logs,
        client(reached, *python(script)) as waiting,
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
