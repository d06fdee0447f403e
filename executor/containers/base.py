"""What the rest of the executor knows about containers: the protocol, its words, its errors.

One container runs one command. The commands of a task share a work folder, nothing else.

    ContainerError
    ├── EngineUnavailable      the engine does not answer; worth another try later
    ├── ImageUnavailable       the image is neither here nor to be had
    ├── ContainerLost          it ended together with what watched it; how, nobody can say
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
    """A container could not be run, for a reason that is not the command's own."""


class EngineUnavailable(ContainerError):
    """The container engine does not answer, or refused for its own reasons."""


class ContainerLost(ContainerError):
    """A command that had been started is gone, and how it ended cannot be known."""


class ContainerStuck(ContainerError):
    """A container outlived SIGKILL: its processes hang in the kernel."""


class ImageUnavailable(ContainerError):
    """The image is neither on this machine nor to be had from its registry.

    `permanent` is false when another try may help (a network or registry fault).
    """

    def __init__(self, image: str, reason: str, advice: str, *, permanent: bool) -> None:
        super().__init__(f"The image {image!r} is not available: {reason}. {advice}")
        self.image = image
        self.permanent = permanent


#: Where a container that works with others has the folder of `Peers`.
PEERS_DIR = "/simherd"


@dataclass(frozen=True)
class Peers:
    """What a container has that works with others, on other machines."""

    #: Made by `make_network`.
    network: str
    #: Its own name, by which the others reach it.
    hostname: str
    #: Host folder that it has as PEERS_DIR.
    folder: Path


@dataclass(frozen=True)
class ContainerSpec:
    """One command, and what it may use."""

    #: Unique on the machine: letters, digits, `_`, `.`, `-`.
    name: str
    image: str
    #: Host folder; the only thing the command can write to that lasts.
    work_dir: Path
    #: Program and arguments, passed on as they are: there is no shell.
    argv: tuple[str, ...]
    #: Host files, appended to; both may lie in the work folder.
    stdout: Path
    stderr: Path
    #: Where the command starts, relative to the work folder.
    cwd: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    #: More of the environment: paths relative to the work folder, told as they are inside.
    paths: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    labels: Mapping[str, str] = field(default_factory=dict)
    #: None: as much as the machine has. Swap is never added to it.
    memory_bytes: int | None = None
    cpus: float | None = None
    policy: Policy = field(default_factory=Policy)
    #: Whether it is to have the network; the policy must allow it, too.
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
    #: choose itself.
    signal: int | None = None
    #: The memory limit killed something inside; with code 0 it was not the command itself.
    oom: bool = False
    #: What to tell the user beyond the code; may be empty.
    message: str = ""


@dataclass(frozen=True)
class ImageInfo:
    """Where an image came from: `local`, `pulled`, or `host` where there are no images."""

    size_bytes: int
    source: str


class Running(Protocol):
    """A started command. Every method may be called from any thread, and again."""

    @property
    def name(self) -> str: ...

    def wait(self, timeout_s: float | None) -> Exit | None:
        """Block until the command ended; None when `timeout_s` passed first.

        On return nothing of it runs any more and its log files are complete. Raises
        ContainerLost.
        """

    def signal(self, name: str) -> None:
        """Send a signal, such as `SIGUSR1`; nothing happens when it has already ended."""

    def warn(self, name: str) -> int:
        """Send a signal to those of its processes that handle it; answers how many there were.

        To the others a signal such as SIGUSR1 would be the end.
        """

    def processes(self) -> list[int]:
        """The numbers of its processes, as far as this machine knows them."""

    def usage(self) -> Usage | None:
        """What it uses now; None when it has ended, or that cannot be read."""

    def alarms(self) -> list[IO[bytes]]:
        """Files that poll as urgent (POLLPRI) when it meets a limit; for the caller to close."""

    def stop(self, grace_s: float) -> Exit:
        """SIGTERM, then after `grace_s` SIGKILL for everything that is left; block until gone.

        Another call with a shorter grace, from another thread, shortens the first.
        Raises ContainerStuck.
        """

    def remove(self) -> None:
        """Kill what still runs, forget the container, join its threads. Keeps the log files."""


#: Says by a container's labels whether it is to be left alone.
Keep = Callable[[Mapping[str, str]], bool]


def keep_nothing(_labels: Mapping[str, str]) -> bool:
    """Leave none alone."""
    return False


class ContainerBackend(Protocol):
    """A way to run commands apart from the agent."""

    @property
    def name(self) -> str: ...

    def prepare(self, image: str) -> ImageInfo:
        """Have the image on this machine: look here first, then pull. Blocks for minutes.

        Raises ImageUnavailable, EngineUnavailable.
        """

    def start(self, spec: ContainerSpec) -> Running:
        """Start a command. One that cannot be executed is no error but an Exit of 126 or 127.

        Raises ImageUnavailable, EngineUnavailable, ContainerError when the engine refuses the
        spec, and OSError when the log files cannot be opened.
        """

    def adopt(self, spec: ContainerSpec) -> Running | None:
        """Go on with the command that an earlier agent started, running or ended.

        None: it was never started. Raises ContainerLost when it was, and how it ended cannot be
        known, EngineUnavailable, ContainerError.
        """

    def cleanup(self, labels: Mapping[str, str], keep: Keep = keep_nothing) -> int:
        """Kill and remove whatever carries all these labels, from this agent or an earlier one.

        Returns how many there were. Raises EngineUnavailable.
        """

    def data_root(self) -> Path | None:
        """The folder whose disk holds images; None where there are none."""

    def remove_image(self, image: str) -> bool:
        """Remove an image; False when it is in use, or not to be had rid of."""

    def make_network(self, name: str) -> str:
        """Have a network on which containers reach one another and nothing else.

        Answers its addresses, such as `172.19.0.0/16`. Raises EngineUnavailable, ContainerError.
        """

    def remove_network(self, name: str) -> bool:
        """Remove it; False while a container is on it, or when that cannot be had."""

    def gpus(self) -> int:
        """How many GPUs containers can be given."""

    def check(self) -> None:
        """Raise EngineUnavailable when the engine does not answer."""

    def close(self) -> None:
        """Close the connections to the engine; what runs goes on running, unobserved."""


class NotStarted:
    """A command that ended before it began: wrong program, wrong folder."""

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
    """Why no backend can execute this command, or None: checked before anything is started."""
    if not spec.argv or not spec.argv[0]:
        return Exit(NOT_FOUND, message="The command is empty.")
    if any("\0" in text for text in (*spec.argv, *spec.env.keys(), *spec.env.values())):
        return Exit(NOT_EXECUTABLE, message="The command or its environment contains a NUL.")
    home = os.path.realpath(spec.work_dir)
    there = os.path.realpath(os.path.join(home, spec.cwd))
    if os.path.commonpath((home, there)) != home:
        return Exit(NOT_EXECUTABLE, message=f"The folder {spec.cwd!r} is outside the work folder.")
    if not os.path.isdir(there):
        return Exit(NOT_EXECUTABLE, message=f"The folder {spec.cwd!r} does not exist.")
    return None
