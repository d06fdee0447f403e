"""A whole Simherd for tests: `simherd up` as a user would start it, on free ports."""

from __future__ import annotations

import copy
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from tests.support.mortal import mortal
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator


Done = subprocess.CompletedProcess[str]


class Env:
    """One `simherd up` in a folder; started again on the same folder it finds everything."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._options = options
        self._settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self._api: httpx.Client | None = None

    @property
    def api(self) -> httpx.Client:
        """The API, as this Simherd's first user sees it."""
        assert self._api is not None
        return self._api

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user of this Simherd."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SIMHERD_")}
        return {
            **clean,
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "NO_COLOR": "1",
            **self._settings,
        }

    def start(self, port: int = 0) -> Env:
        """Start it, and wait until it is ready with its machines."""
        log = (self.folder / "up.log").open("ab")
        (self.data / "connection.env").unlink(missing_ok=True)
        self._api = None
        argv = [sys.executable, "-m", "simherd.cli.main", "up"]
        argv += ["--port", str(port), "--data-dir", str(self.data), *self._options]
        self.process = subprocess.Popen(
            mortal(argv),
            env=self.environment,
            # Not where this repository's own packages would be found before a release's.
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        until(self._ready, what=f"`simherd up`, see {self.folder / 'up.log'}")
        return self

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "up.log").read_text())
        file = self.data / "connection.env"
        if not file.exists():
            return False
        if self._api is None:
            lines = dict(line.split("=", 1) for line in file.read_text().splitlines())
            self.url, self.key = lines["SIMHERD_API_URL"], lines["SIMHERD_API_KEY"]
            self._api = self._client()
        found = self.api.get("/compute/group/local")
        if found.status_code != 200:
            return False
        machines = found.json()["machines"]
        return bool(machines) and all(m["last_seen_at"] for m in machines)

    def _client(self) -> httpx.Client:
        headers = {"X-API-Key": self.key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def as_user(self, key: str) -> Env:
        """The same Simherd, for the user whose key this is."""
        theirs = copy.copy(self)
        theirs.key = key
        theirs._api = theirs._client()
        return theirs

    def stop(self) -> None:
        """Stop it as Ctrl-C does, and check that nothing of it is left running."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            self.process = None
        until(lambda: not any(map(runs, self.processes())), what="nothing to be left running")
        mounts = Path("/proc/mounts").read_text()
        assert str(self.data) not in mounts, "left mounted"

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Every process that works in this Simherd's folder."""
        return processes_below(self.data, word)

    def nothing_is_left(self) -> None:
        """Wait until no machine keeps anything of an attempt."""
        machines = self.data / "machines"
        until(lambda: not list(machines.glob("*/attempts/*")), what="empty work folders")

    def part(self, name: str) -> psutil.Process:
        """One part's process: redis, api, worker, recorder, or agent (the first machine's)."""
        return psutil.Process(self._pid(name))

    def _pid(self, name: str) -> int:
        if name == "agent":
            pid_file = next((self.data / "machines").glob("*/agent.pid"))
        else:
            pid_file = self.data / "run" / f"{name}.pid"
        return int(pid_file.read_text() or "0")

    def wait_for_another(self, name: str, old: psutil.Process) -> None:
        """Wait until a part that ended was started again."""
        until(lambda: self._pid(name) not in (0, old.pid), what=f"another {name}")

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """One part stands still meanwhile."""
        process = self.part(name)
        process.suspend()
        try:
            yield
        finally:
            # It may have been killed meanwhile.
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def kill_part(self, name: str) -> None:
        """SIGKILL one part, see `part`."""
        victim = self.part(name)
        victim.kill()
        until(lambda: not runs(victim), what=f"the end of {name}")

    def python(self, script: str, folder: Path, **more: str) -> str:
        """Run a user's Python script in `folder`; return what it printed."""
        told = {**self.connection, **more}
        return self._run([sys.executable, "-c", script], folder, told).stdout

    def shell(self, script: str, folder: Path) -> str:
        """Run a user's shell script until a command fails; return what it printed."""
        path = f"{Path(sys.executable).parent}:{self.environment['PATH']}"
        argv = ["sh", "-euc", script]
        return self._run(argv, folder, {**self.connection, "PATH": path}).stdout

    def command(self, *arguments: str, **more: str) -> Done:
        """Run `simherd` where no Simherd was started."""
        argv = [sys.executable, "-m", "simherd.cli.main", *arguments]
        return self._run(argv, self.folder, more, check=False)

    def cli(
        self, *arguments: str, folder: Path | None = None, more: dict[str, str] | None = None
    ) -> Done:
        """Run `simherd` with these arguments, as a user of this Simherd."""
        argv = [sys.executable, "-m", "simherd.cli.main", *arguments]
        told = {**self.connection, **(more or {})}
        return self._run(argv, folder or self.folder, told, check=False)

    def _run(self, argv: list[str], folder: Path, more: dict[str, str], check: bool = True) -> Done:
        done = subprocess.run(
            argv,
            cwd=folder,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    @property
    def connection(self) -> dict[str, str]:
        """The variables that lead our client and the published one to this Simherd."""
        return {
            "SIMHERD_API_URL": self.url,
            "SIMHERD_API_KEY": self.key,
            "INDUCTIVA_API_URL": self.url,
            "INDUCTIVA_MACHINES_CATALOGUE_API_URL": self.url,
            "INDUCTIVA_API_KEY": self.key,
            # A server that does not answer costs it 5 s a connection; no host has such a name.
            "INDUCTIVA_TURN_SERVER_URL": "no..where:9",
        }

    def start_group(self, name: str, **fields: Any) -> dict[str, Any]:
        """Start a machine group of this machine's own kind, and wait for its machines."""
        body = {"machine_type": "local", "provider_id": "LOCAL", "name": name, "spot": False}
        body |= fields
        made = self.api.post("/compute/group", json=body)
        assert made.status_code == 201, made.text
        self.api.post("/compute/group/start", params={"machine_group_id": made.json()["id"]})

        def ready() -> dict[str, Any] | None:
            group: dict[str, Any] = self.api.get(f"/compute/group/{name}").json()
            up = group["machines"] and all(m["last_seen_at"] for m in group["machines"])
            return group if up else None

        return until(ready, what=f"the machines of {name}")

    def submit(
        self,
        *commands: str | dict[str, Any],
        group: str = "local",
        files: dict[str, str] | None = None,
        archive: bytes | None = None,
        more: dict[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """Submit a task with its input, and `more` in its extra parameters; return its id."""
        group_id = self.api.get(f"/compute/group/{group}").json()["id"]
        extra: dict[str, Any] = {
            "commands": [c if isinstance(c, dict) else {"cmd": c} for c in commands]
        }
        extra |= more or {}
        body = {
            "simulator": "arbitrary_commands",
            "resource_pool": group_id,
            "container_image": "docker://simherd/debian:bookworm",
            "extra_params": extra,
            **fields,
        }
        made = self.api.post("/tasks/submit", json=body)
        assert made.status_code == 202, made.text
        task_id = str(made.json()["id"])
        prefix = fields.get("storage_path_prefix", "")
        data = archive if archive is not None else zipped(files or {})
        self.upload(task_id, data, f"{prefix}/{task_id}/input.zip")
        return task_id

    def upload(self, task_id: str, archive: bytes, path: str) -> None:
        """Upload a task's input archive, and say that it is there."""
        (url,) = self.api.get(
            "/storage/signed-urls", params={"operation": "upload", "paths": path}
        ).json()
        # In pieces: the library copies the rest of a large body after each send.
        pieces = (archive[i : i + 2**18] for i in range(0, len(archive), 2**18))
        headers = {"Content-Length": str(len(archive))}
        stored = httpx.put(url, content=pieces, headers=headers, timeout=60, trust_env=False)
        assert stored.status_code == 200
        assert self.api.post(f"/tasks/{task_id}/input_uploaded").status_code == 200

    def work(self, task_id: str) -> Path:
        """Wait until a task's first attempt is on a machine; return its work folder."""
        machines = self.data / "machines"
        return until(
            lambda: next(machines.glob(f"*/attempts/{task_id}-1/work"), None),
            what=f"the work folder of task {task_id}",
        )

    def wait_for_file(self, task_id: str, name: str) -> Path:
        """Wait until a task's commands have made a file; return it."""
        file = self.work(task_id) / name
        until(file.exists, what=f"{name} of task {task_id}")
        return file

    def stored(self, task_id: str, attempt: int) -> list[Path]:
        """What is stored of one attempt."""
        return [
            file
            for file in (self.data / "storage").rglob("*")
            if file.is_file() and f"{task_id}/attempts/{attempt}/" in file.as_posix()
        ]

    def agent_of(self, group: str) -> psutil.Process:
        """The agent of a group's only machine."""
        (machine,) = self.api.get(f"/compute/group/{group}").json()["machines"]
        pid_file = self.data / "machines" / machine["uuid"] / "agent.pid"
        return psutil.Process(int(pid_file.read_text()))

    def reclaim(self, machine_id: str, in_s: float) -> None:
        """Send a machine a reclaim notice of so many seconds, as a cloud does."""
        notice = self.data / "machines" / machine_id / "spot-notice"
        written = notice.with_suffix(".new")
        written.write_text(json.dumps({"in_s": in_s}))
        written.replace(notice)

    def silent_for(self, group: str) -> float:
        """Seconds since a group's only machine was last heard of."""
        (machine,) = self.api.get(f"/compute/group/{group}").json()["machines"]
        seen = datetime.fromisoformat(machine["last_seen_at"])
        return (datetime.now(UTC) - seen).total_seconds()

    def task(self, task_id: str) -> dict[str, Any]:
        """Everything about a task."""
        found: dict[str, Any] = self.api.get(f"/tasks/{task_id}").json()
        return found

    def status(self, task_id: str) -> str:
        """A task's status."""
        return str(self.api.get(f"/tasks/{task_id}/status").json()["status"])

    def wait(self, task_id: str, timeout_s: float = 120) -> dict[str, Any]:
        """Wait until a task has ended; return everything about it."""

        def ended() -> dict[str, Any] | None:
            found = self.task(task_id)
            return found if found["is_terminated"] else None

        try:
            return until(ended, timeout_s=timeout_s, what=f"task {task_id}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.task(task_id)}") from None

    def wait_for(self, task_id: str, status: str, timeout_s: float = 120) -> None:
        """Wait until a task has a status."""
        until(
            lambda: self.status(task_id) == status,
            timeout_s=timeout_s,
            what=f"task {task_id} to be {status}",
        )

    def outputs(self, task_id: str) -> dict[str, bytes]:
        """A task's output files."""
        path = self.task(task_id)["storage_output_path"]
        (url,) = self.api.get(
            "/storage/signed-urls", params={"operation": "download", "paths": path}
        ).json()
        content = httpx.get(url, trust_env=False, follow_redirects=True, timeout=60).content
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {
                i.filename.removeprefix("artifacts/"): archive.read(i)
                for i in archive.infolist()
                if not i.is_dir()
            }


def runs(process: psutil.Process) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def redis_port(data: Path) -> int:
    """The port of the Redis that a Simherd on this folder started."""
    (server,) = processes_below(data, "redis-server")
    words = " ".join(server.cmdline()).split()
    return next(int(word.rpartition(":")[2]) for word in words if ":" in word)


def zipped(files: dict[str, str], root: str = "sim_dir/") -> bytes:
    """An input archive as clients make it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(root, "")
        for name, text in files.items():
            archive.writestr(root + name, text)
    return buffer.getvalue()


def processes_below(folder: Path, word: str = "") -> list[psutil.Process]:
    """Every process that works in a folder, with `word` in its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = process.cwd().startswith(str(folder))
            if inside and word in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
