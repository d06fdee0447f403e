"""docs/upgrading.md: from the previous release to this one and back, while tasks run."""

from __future__ import annotations

import signal
import subprocess
import sys
import zipfile
from importlib.metadata import version
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests.conftest import REPOSITORY
from tests.support.docker import containers
from tests.support.env import Env
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.docker, pytest.mark.slow]

_WAIT = "sh -c 'while [ ! -e gate ]; do sleep 0.05; done; echo done >> out.txt'"
_OPEN = {"gate": ""}


class Upgrade:
    """A Simherd of the previous release, whose parts are replaced one after another."""

    def __init__(self, folder: Path) -> None:
        (wheel,) = (REPOSITORY / "tests" / "releases").glob("simherd-*.whl")
        self.release = wheel.name.split("-")[1]
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "release")
        # What comes with PYTHONPATH is found before what is installed.
        self.env = Env(
            folder,
            *("--backend", "docker", "--slots", "2"),
            PYTHONPATH=str(folder / "release"),
            SIMHERD_SWEEP_S="1",
            SIMHERD_GRACE_S="5",
        )
        self._settings: dict[str, str] = {}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the previous release."""
        self.env.start()
        told = self.env.part("api").environ()
        self._settings = {name: value for name, value in told.items() if name != "PYTHONPATH"}
        # What docs/upgrading.md has an operator set, whose old release did not need it.
        self._settings["SIMHERD_PROVIDERS"] = "local"

    def stop_scheduler(self) -> None:
        """Stop the old release's processes; Redis and the agent stay."""
        up = self.env.process
        assert up is not None
        # It would start them again.
        up.kill()
        up.wait()
        for name in ("worker", "recorder", "api"):
            process = self.env.part(name)
            process.terminate()
            until(lambda p=process: not p.is_running(), what=f"the end of {name}")  # type: ignore[misc]

    def scheduler(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run this release's `simherd-scheduler`."""
        return subprocess.run(
            [sys.executable, "-m", "scheduler", *words],
            env=self._settings,
            cwd=self.env.data / "run",
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def old_revision(self) -> str:
        """The newest schema that the previous release knows."""
        versions = self.env.folder / "release" / "scheduler/store/migrations/versions"
        return max(file.name for file in versions.glob("*.py"))[:4]

    def stop_new_scheduler(self) -> None:
        """Stop what `start_scheduler` has started."""
        for process in reversed(self._started):
            process.terminate()
            process.wait(30)
        self._started = []

    def start_scheduler(self, **more: str) -> None:
        """Start this release's processes; with a PYTHONPATH, those of another."""
        for name in ("api", "recorder", "worker"):
            with (self.env.data / "logs" / f"{name}.log").open("ab") as log:
                self._started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "scheduler", name],
                        env={**self._settings, **more},
                        cwd=self.env.data / "run",
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )

    def server_version(self) -> str:
        """What the API says that it is; empty while it does not answer."""
        try:
            told = self.env.api.get("/version-check", params={"client_version": "0.18.12"})
        except httpx.TransportError:
            return ""
        return str(told.json()["server_version"])

    def stop(self) -> None:
        """Stop everything, whoever started it."""
        if self.env.process is not None and self.env.process.poll() is None:
            self.env.stop()
            return
        self.stop_new_scheduler()
        for left in self.env.processes():
            left.send_signal(signal.SIGINT)
        psutil.wait_procs(self.env.processes(), 30)
        assert self.env.processes() == []


@pytest.fixture
def upgrade(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    made = Upgrade(tmp_path_factory.mktemp("upgrade"))
    made.start()
    yield made
    made.stop()


def _open_gate(env: Env, task_id: str) -> None:
    (next((env.data / "machines").glob(f"*/attempts/{task_id}-1/work")) / "gate").touch()


def _ended_well(env: Env, task_id: str) -> None:
    task = env.wait(task_id)
    assert task["status"] == "success", task["error_detail"]
    assert task["num_retries"] == 0
    history = [entry["status"] for entry in task["status_history"]]
    assert len(history) == len(set(history)), f"something was reported twice: {history}"
    assert env.outputs(task_id)["out.txt"] == b"done\n"


def test_tasks_outlive_an_upgrade(upgrade: Upgrade) -> None:
    env = upgrade.env
    assert upgrade.server_version() == upgrade.release != version("simherd")
    long, short = env.submit(_WAIT), env.submit(_WAIT)
    for task_id in (long, short):
        env.wait_for(task_id, "computation-started")
    queued = env.submit(_WAIT, files=_OPEN)
    agent = env.part("agent")
    assert str(env.folder / "release") in agent.environ()["PYTHONPATH"]
    (container,) = until(lambda: containers(long), what="the container")

    refused = upgrade.scheduler("api")
    assert "Run `simherd-scheduler migrate`" in refused.stderr
    assert upgrade.scheduler("migrate").returncode == 0
    # The old processes go on with the new schema.
    _open_gate(env, short)
    for task_id in (short, queued):
        _ended_well(env, task_id)
    upgrade.stop_scheduler()
    upgrade.start_scheduler()
    until(lambda: upgrade.server_version() == version("simherd"), what="the new API")

    # The old agent still works: it reports, stores, and takes what is new.
    _ended_well(env, env.submit(_WAIT, files=_OPEN))
    assert agent.is_running()

    # Hand-over: what runs is not touched.
    agent.terminate()
    (log,) = (env.data / "machines").glob("*/agent.log")
    until(lambda: "event=agent_draining" in log.read_text(), what="the agent to drain")
    agent.terminate()
    env.wait_for_another("agent", agent)
    assert "PYTHONPATH" not in env.part("agent").environ()
    _ended_well(env, env.submit(_WAIT, files=_OPEN))
    assert containers(long) == [container]

    # And back, with the new agent: schema first, then the programs.
    upgrade.stop_new_scheduler()
    back = upgrade.scheduler("migrate", "--to", upgrade.old_revision)
    assert back.returncode == 0, back.stderr
    upgrade.start_scheduler(PYTHONPATH=str(env.folder / "release"))
    until(lambda: upgrade.server_version() == upgrade.release, what="the old API")
    _open_gate(env, long)
    _ended_well(env, long)
    _ended_well(env, env.submit(_WAIT, files=_OPEN))
    env.nothing_is_left()
