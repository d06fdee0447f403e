"""What drills do to the machines and the Redis that `simherd up` runs as processes of this host."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import psutil

from simherd.contract import labels
from simherd.errors import SimherdError
from simherd_drills.errors import GOES_ON, DrillNotPossible
from simherd_drills.machines import BALLAST, unpause
from simherd_drills.suspended import FROZEN, psutil_errors, resume, suspend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simherd_drills.docker_engine import Container, Engine

#: Seconds that Redis has for stopping by itself.
_STOP_S = 10.0


class LocalMachine:
    """A `DrillMachine` that is a process of this host, with its folder."""

    kind = "simherd up"

    def __init__(self, engine: Engine, folder: Path, agent: psutil.Process) -> None:
        membership = json.loads((folder / "identity.json").read_text())["membership"]
        environment = agent.environ()
        self._engine = engine
        self._folder = folder
        self._agent = agent
        self._notice = Path(unquote(urlsplit(environment["SIMHERD_SPOT_NOTICES"]).path))
        self._has_containers = environment["SIMHERD_BACKEND"] == "docker"
        self.id = str(membership["machine_id"])
        self.name = str(membership["machine_name"])

    @property
    def state(self) -> str:
        return _state(self._agent)

    @property
    def is_up(self) -> bool:
        return self._agent.is_running()

    def give_notice(self, in_s: float) -> None:
        new = self._notice.with_suffix(".new")
        new.write_text(json.dumps({"in_s": in_s}))
        new.replace(self._notice)

    def withdraw_notice(self) -> None:
        self._notice.unlink(missing_ok=True)

    def take_away(self) -> None:
        """See `DrillMachine`. The same one is started again by its provider, in the same folder."""
        self.withdraw_notice()
        for process in self._processes():
            with psutil_errors(process):
                process.kill()
        for container in self._containers():
            self._engine.kill(container)

    def kill_agent(self) -> None:
        with psutil_errors(self._agent):
            self._agent.kill()

    def freeze(self) -> None:
        if self.state == psutil.STATUS_STOPPED:
            raise DrillNotPossible(f"{self.name}: {GOES_ON}")
        suspend(self._folder, self._processes())
        for container in self._containers():
            if container.state == "running":
                self._engine.pause(container)

    def thaw(self) -> bool:
        try:
            stood = resume(self._folder, self._processes())
        finally:
            unpaused = unpause(self._engine, self._containers())
        return stood or unpaused

    def cut(self, *, one_way: bool) -> None:
        raise DrillNotPossible(
            f"{self.name} is a process of this host and cannot be cut off alone. Use machines of "
            "the provider docker, with a network for each (docs/operating.md)."
        )

    def join(self) -> bool:
        return False

    def disk(self) -> int:
        return self._folder.stat().st_dev

    def engine_disk(self) -> int | None:
        return os.stat(self._engine.folder).st_dev if self._has_containers else None

    def fill(self, leave: int) -> int:
        ballast = self._folder / BALLAST
        if ballast.exists():
            raise DrillNotPossible(f"{self.name}: {GOES_ON}")
        taken = shutil.disk_usage(self._folder).free - leave
        if taken <= 0:
            raise SimherdError(f"{self.name}: there are only {taken + leave} bytes free already.")
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, taken)
        return taken

    def empty(self) -> bool:
        ballast = self._folder / BALLAST
        there = ballast.exists()
        ballast.unlink(missing_ok=True)
        return there

    def _containers(self) -> list[Container]:
        """Those of its simulations, where it runs them in containers."""
        if not self._has_containers:
            return []
        return self._engine.containers(f"{labels.HOLDER}={self.id}")

    def _processes(self) -> list[psutil.Process]:
        """Its agent, and all that this has started; first the agent, see `DockerMachine`."""
        try:
            return [self._agent, *self._agent.children(recursive=True)]
        except psutil.Error:
            return []


def local_machines(engine: Engine, data: Path) -> Iterator[LocalMachine]:
    """The machines of a `simherd up` on this folder whose agents are processes and have joined."""
    for file in sorted((data / "machines").glob("*/agent.pid")):
        # A machine that is just starting or ending is skipped.
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, psutil.Error):
            agent = psutil.Process(int(file.read_text()))
            # The process id may be another's by now; an agent in a container has another folder.
            if agent.cwd() == str(file.parent.resolve()):
                yield LocalMachine(engine, file.parent, agent)


class LeftFrozen:
    """What drills have left suspended on a machine whose agent may be gone."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        #: The machine's id.
        self.name = folder.name

    def thaw(self) -> bool:
        """Resume it; return whether something was suspended."""
        stood = resume(self._folder, [])
        found = self._engine.containers(f"{labels.HOLDER}={self.name}")
        return unpause(self._engine, found) or stood


def left_frozen(engine: Engine, data: Path) -> list[LeftFrozen]:
    """The machines of a `simherd up` on this folder that drills have left suspended."""
    files = sorted((data / "machines").glob(f"*/{FROZEN}"))
    return [LeftFrozen(engine, file.parent) for file in files]


class LocalRedis:
    """The `Redis` of a `simherd up`, which starts it again when it has ended."""

    name = "redis"
    kind = "simherd up"

    def __init__(self, process: psutil.Process) -> None:
        self._process = process

    @property
    def state(self) -> str:
        return _state(self._process)

    def restart(self, *, kill: bool) -> None:
        """Send SIGTERM or SIGKILL, and return when it has ended."""
        with psutil_errors(self._process):
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except psutil.TimeoutExpired as error:
            raise SimherdError(
                f"{self.name} did not end within {_STOP_S:.0f} s of SIGTERM; --kill forces it."
            ) from error


def local_redis(data: Path) -> LocalRedis | None:
    """The Redis of a `simherd up` that runs on this folder."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int((data / "run" / "redis.pid").read_text()))
        # The process id may be another Redis' by now; this one works in its own folder.
        is_ours = process.cwd() == str((data / "redis").resolve())
        if is_ours and "redis-server" in " ".join(process.cmdline()):
            return LocalRedis(process)
    return None


def _state(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return "gone"
