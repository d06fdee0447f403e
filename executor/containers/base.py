"""The protocol of container backends, its data and its errors.

One container runs one command. The commands of a task share a work folder, nothing else.

    ContainerError
    ├── EngineUnavailable      the engine cannot be reached; worth another try later
    ├── ImageUnavailable       the image is not here and cannot be pulled
    ├── ContainerLost          it ended together with its watcher, with an unknown exit code
    └── ContainerStuck         still there a minute after SIGKILL; the machine needs a restart
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol

from simherd.contract.policy import Policy

if TYPE_CHECKING:
    from pathlib import Path

    from executor.containers.usage import Usage

#: Exit code of a command that exists but cannot be executed, as shells have it.
NOT_EXECUTABLE = 126
#: Exit code of a command that was not found, as shells have it.
NOT_FOUND = 127
#: What a shell and an init add to a signal's number to make an exit code.
SIGNAL_BASE = 128
#: Seconds a process has to vanish after SIGKILL; longer means it hangs in the kernel.
KILL_WAIT_S = 60.0


class ContainerError(Exception):
    """A container could not be run, for a reason outside the command."""


class EngineUnavailable(ContainerError):
    """The container engine cannot be reached, or failed."""


class ContainerLost(ContainerError):
    """A command that was started is gone, and its exit code is unknown."""


class ContainerStuck(ContainerError):
    """A container outlived SIGKILL: its processes hang in the kernel."""


class ImageUnavailable(ContainerError):
    """The image is not on this machine and cannot be pulled from its registry. `permanent` is false
    when another try may help (a network or registry fault)."""

    def __init__(self, image: str, reason: str, advice: str, *, permanent: bool) -> None:
        super().__init__(f"The image {image!r} is not available: {reason}. {advice}")
        self.image = image
        self.permanent = permanent


#: The mount point of the folder of `Peers`.
PEERS_DIR = "/simherd"


@dataclass(frozen=True)
class Peers:
    """The connection of a container to others, on other machines."""

    #: Made by `make_network`.
    network: str
    #: The container's name, by which the others reach it.
    hostname: str
    #: Host folder that is mounted at PEERS_DIR.
    folder: Path


@dataclass(frozen=True)
class ContainerSpec:
    """One command and its resources."""

    #: Unique on the machine: letters, digits, `_`, `.`, `-`.
    name: str
    image: str
    #: Host folder; the only thing the command can write to that lasts.
    work_dir: Path
    #: Program and arguments, without a shell.
    argv: tuple[str, ...]
    #: Host files, appended to; both may lie in the work folder.
    stdout: Path
    stderr: Path
    #: Where the command starts, relative to the work folder.
    cwd: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    #: More of the environment: paths relative to the work folder, given as they are inside.
    paths: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    labels: Mapping[str, str] = field(default_factory=dict)
    #: None means as much as the machine has. Swap is never added to it.
    memory_bytes: int | None = None
    cpus: float | None = None
    policy: Policy = field(default_factory=Policy)
    #: Whether it gets the network; the policy must allow it, too.
    network: bool = False
    peers: Peers | None = None
    #: What each of stdout and stderr may grow to, over all commands that append to it.
    log_limit_bytes: int = 256 * 1024**2


@dataclass(frozen=True)
class Exit:
    """How a command ended."""

    #: 0-255; 128 + N for signal N; 126 not executable; 127 not found.
    code: int
    #: The signal that ended it. With Docker deduced from the code, which a program may also
    #: return by itself.
    signal: int | None = None
    #: The memory limit killed something inside; with code 0 it was not the command itself.
    oom: bool = False
    #: An explanation for the user beyond the code; may be empty.
    message: str = ""


@dataclass(frozen=True)
class ImageInfo:
    """The origin of an image: `local`, `pulled`, or `host` where there are no images."""

    size_bytes: int
    source: str


class Running(Protocol):
    """A started command. Every method may be called from any thread, and again."""

    @property
    def name(self) -> str: ...

    def wait(self, timeout_s: float | None) -> Exit | None:
        """Block until the command ended; None when `timeout_s` passed first. On return nothing of
        it runs any more and its log files are complete. Raises ContainerLost."""

    def signal(self, name: str) -> None:
        """Send a signal, such as `SIGUSR1`; do nothing when the command has ended."""

    def warn(self, name: str) -> int:
        """Send a signal to those of its processes that handle it; return their number. A signal
        such as SIGUSR1 would end the others."""

    def processes(self) -> list[int]:
        """Return the ids of its processes, as far as this machine knows them."""

    def usage(self) -> Usage | None:
        """Return its present usage; None when it has ended, or that cannot be read."""

    def alarms(self) -> list[IO[bytes]]:
        """Return open files that poll as urgent (POLLPRI) when it meets a limit."""

    def stop(self, grace_s: float) -> Exit:
        """Send SIGTERM, then after `grace_s` SIGKILL to everything that is left; block until gone.

        Another call with a shorter grace, from another thread, shortens the first.
        Raises ContainerStuck.
        """

    def remove(self) -> None:
        """Kill what still runs, remove the container, join its threads. Keeps the log files."""


#: Decides by a container's labels whether to keep it.
Keep = Callable[[Mapping[str, str]], bool]


def keep_nothing(_labels: Mapping[str, str]) -> bool:
    """Keep none."""
    return False


class ContainerBackend(Protocol):
    """A way to run commands apart from the agent."""

    @property
    def name(self) -> str: ...

    def prepare(self, image: str) -> ImageInfo:
        """Make the image available on this machine, by a pull if needed. Blocks for minutes. Raises
        ImageUnavailable, EngineUnavailable."""

    def start(self, spec: ContainerSpec) -> Running:
        """Start a command. One that cannot be executed is an Exit of 126 or 127, not an error.

        Raises ImageUnavailable, EngineUnavailable, ContainerError when the engine refuses the
        spec, and OSError when the log files cannot be opened.
        """

    def adopt(self, spec: ContainerSpec) -> Running | None:
        """Take over the command that an earlier agent started, running or ended.

        Return None when it was never started. Raises ContainerLost when it was, and its exit code
        is unknown, EngineUnavailable, ContainerError.
        """

    def cleanup(self, labels: Mapping[str, str], keep: Keep = keep_nothing) -> int:
        """Kill and remove the containers with all these labels, also of earlier agents. Return
        their number. Raises EngineUnavailable."""

    def data_root(self) -> Path | None:
        """Return the folder whose disk holds images; None where there are none."""

    def remove_image(self, image: str) -> bool:
        """Remove an image; return False when it is in use or cannot be removed."""

    def make_network(self, name: str) -> str:
        """Make a network on which containers reach one another and nothing else. Return its
        addresses, such as `172.19.0.0/16`. Raises EngineUnavailable, ContainerError."""

    def remove_network(self, name: str) -> bool:
        """Remove a network; return False while a container is on it, or when that fails."""

    def gpus(self) -> int:
        """Return the number of GPUs that containers can get."""

    def check(self) -> None:
        """Raise EngineUnavailable when the engine cannot be reached."""

    def close(self) -> None:
        """Close the connections to the engine; running containers go on, unobserved."""


class NotStarted:
    """A command that could not be started: wrong program, wrong folder."""

    def __init__(self, name: str, exit_: Exit) -> None:
        self.name = name
        self._exit = exit_

    def wait(self, timeout_s: float | None) -> Exit:
        return self._exit

    def signal(self, name: str) -> None:
        return None

    def warn(self, name: str) -> int:
        return 0

    def processes(self) -> list[int]:
        return []

    def usage(self) -> None:
        return None

    def alarms(self) -> list[IO[bytes]]:
        return []

    def stop(self, grace_s: float) -> Exit:
        return self._exit

    def remove(self) -> None:
        return None


def refusal(spec: ContainerSpec) -> Exit | None:
    """Return why no backend can execute this command; None when it can be tried."""
    if not spec.argv or not spec.argv[0]:
        return Exit(NOT_FOUND, message="The command is empty.")
    if any("\0" in text for text in (*spec.argv, *spec.env.keys(), *spec.env.values())):
        return Exit(NOT_EXECUTABLE, message="The command or its environment contains a NUL.")
    home = os.path.realpath(spec.work_dir)
    cwd = os.path.realpath(os.path.join(home, spec.cwd))
    if os.path.commonpath((home, cwd)) != home:
        return Exit(NOT_EXECUTABLE, message=f"The folder {spec.cwd!r} is outside the work folder.")
    if not os.path.isdir(cwd):
        return Exit(NOT_EXECUTABLE, message=f"The folder {spec.cwd!r} does not exist.")
    return None
