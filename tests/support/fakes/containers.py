"""A container backend without containers: commands are scripts that tests write down."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from executor.containers.base import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    SIGNAL_BASE,
    ContainerError,
    ContainerLost,
    ContainerSpec,
    Exit,
    ImageInfo,
    Running,
    keep_nothing,
    refusal,
)
from executor.containers.logs import not_started, open_capped
from executor.containers.usage import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from executor.containers.base import Keep
    from executor.containers.logs import CappedLog


@dataclass(frozen=True)
class Reaction:
    """What a command does on a signal that it handles; `exits` is None where it goes on."""

    output: str = ""
    exits: int | None = None


@dataclass(frozen=True)
class Script:
    """What a command does: it writes, and then ends or hangs until it is stopped."""

    exit: Exit = field(default_factory=lambda: Exit(0))
    output: bytes = b""
    errors: bytes = b""
    #: Path below the folder where it starts → content.
    files: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    handlers: Mapping[str, Reaction] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    #: Called when it has started, before it ends.
    then: Callable[[FakeRunning], None] | None = None
    #: The error of `adopt`: the command is gone, and how it ended cannot be known.
    is_lost: bool = False


#: A script, or what makes one from the container that is to run it.
Program = Script | Callable[[ContainerSpec], Script]


class FakeRunning:
    """A started script. See `Running`."""

    def __init__(self, engine: FakeEngine, spec: ContainerSpec, script: Script) -> None:
        self.spec = spec
        self.script = script
        self.signals: list[str] = []
        #: The graces of all calls of `stop`.
        self.graces: list[float] = []
        self._engine = engine
        self._changed = threading.Condition()
        self._exit: Exit | None = None
        self._kill_at = float("inf")

    @property
    def name(self) -> str:
        return self.spec.name

    def run(self, out: CappedLog, err: CappedLog) -> None:
        """Do what the script says; writes to the logs, and closes them when it ends."""
        self._out, self._err = out, err
        out.write(self.script.output)
        err.write(self.script.errors)
        for path, text in self.script.files.items():
            file = self.spec.work_dir / self.spec.cwd / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if self.script.then is not None:
            self.script.then(self)
        if not self.script.hangs:
            self.end(self.script.exit)

    def end(self, exit_: Exit) -> Exit:
        """Let a hanging command end; the first end counts."""
        with self._changed:
            if self._exit is None:
                self._exit = exit_
                self._out.close()
                self._err.close()
            self._changed.notify_all()
            return self._exit

    def wait(self, timeout_s: float | None) -> Exit | None:
        with self._changed:
            self._changed.wait_for(lambda: self._exit is not None, timeout_s)
            return self._exit

    def signal(self, name: str) -> None:
        with self._changed:
            if self._exit is not None:
                return
            self.signals.append(name)
            reaction = self.script.handlers.get(name)
            if reaction is None:
                self._die(name)
                return
            self._out.write(reaction.output.encode())
            if reaction.exits is not None:
                self.end(Exit(reaction.exits))

    def _die(self, name: str) -> None:
        number = signal.Signals[name]
        message = "It was killed." if name == "SIGKILL" else ""
        self.end(Exit(SIGNAL_BASE + number, number, message=message))

    def warn(self, name: str) -> int:
        if self._exit is not None or name not in self.script.handlers:
            return 0
        self.signal(name)
        return 1

    def processes(self) -> list[int]:
        return []

    def usage(self) -> Usage | None:
        return self.script.usage if self._exit is None else None

    def alarms(self) -> list[IO[bytes]]:
        return []

    def stop(self, grace_s: float) -> Exit:
        self.graces.append(grace_s)
        with self._changed:
            self._kill_at = min(self._kill_at, time.monotonic() + grace_s)
            self._changed.notify_all()
        if grace_s > 0:
            self.signal("SIGTERM")
        with self._changed:
            while self._exit is None and (left := self._kill_at - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._exit is None:
                self._die("SIGKILL")
            assert self._exit is not None
            return self._exit

    def remove(self) -> None:
        self.stop(0)
        self._engine.containers.pop(self.name, None)


@dataclass
class FakeEngine:
    """What outlives an agent: containers, images, networks. Backends made later find them."""

    #: What commands do, by all of their arguments or by the first one.
    programs: dict[tuple[str, ...] | str, Program] = field(default_factory=dict)
    containers: dict[str, FakeRunning] = field(default_factory=dict)
    networks: set[str] = field(default_factory=set)
    #: Every container that was started, in order, also those that are gone.
    started: list[ContainerSpec] = field(default_factory=list)
    pulled: list[str] = field(default_factory=list)
    #: Raised by `prepare`, by `start`, and by all that talks to the engine.
    image_error: ContainerError | None = None
    start_error: ContainerError | None = None
    error: ContainerError | None = None
    #: Called by `prepare`, which it may hold up.
    on_prepare: Callable[[str], None] | None = None


class FakeBackend:
    """One agent's view of a `FakeEngine`. See `ContainerBackend`."""

    name = "fake"

    def __init__(self, engine: FakeEngine | None = None) -> None:
        self.engine = engine or FakeEngine()

    def prepare(self, image: str) -> ImageInfo:
        self.check()
        if self.engine.on_prepare is not None:
            self.engine.on_prepare(image)
        if self.engine.image_error is not None:
            raise self.engine.image_error
        source = "local" if image in self.engine.pulled else "pulled"
        if source == "pulled":
            self.engine.pulled.append(image)
        return ImageInfo(1000, source)

    def start(self, spec: ContainerSpec) -> Running:
        self.check()
        if self.engine.start_error is not None:
            raise self.engine.start_error
        out, err = open_capped(spec.stdout, spec), open_capped(spec.stderr, spec)
        exit_ = refusal(spec) or self._missing(spec)
        if exit_ is not None:
            out.close()
            return not_started(spec, exit_, err)
        program = self._program(spec)
        assert program is not None
        running = FakeRunning(
            self.engine, spec, program if isinstance(program, Script) else program(spec)
        )
        self.engine.started.append(spec)
        self.engine.containers[spec.name] = running
        running.run(out, err)
        return running

    def _program(self, spec: ContainerSpec) -> Program | None:
        programs = self.engine.programs
        return programs.get(spec.argv) or programs.get(spec.argv[0])

    def _missing(self, spec: ContainerSpec) -> Exit | None:
        if self._program(spec) is not None:
            return None
        if (spec.work_dir / spec.cwd / spec.argv[0]).is_file():
            return Exit(NOT_EXECUTABLE, message=f"{spec.argv[0]!r} cannot be executed.")
        return Exit(NOT_FOUND, message=f"The program {spec.argv[0]!r} was not found.")

    def adopt(self, spec: ContainerSpec) -> Running | None:
        self.check()
        running = self.engine.containers.get(spec.name)
        if running is not None and running.script.is_lost:
            running.remove()
            raise ContainerLost("How the command ended cannot be known.")
        return running

    def cleanup(self, labels: Mapping[str, str], keep: Keep = keep_nothing) -> int:
        self.check()
        left_over = [
            running
            for running in self.engine.containers.values()
            if labels.items() <= running.spec.labels.items() and not keep(running.spec.labels)
        ]
        for running in left_over:
            running.remove()
        return len(left_over)

    def data_root(self) -> Path | None:
        return None

    def remove_image(self, image: str) -> bool:
        if image not in self.engine.pulled:
            return False
        self.engine.pulled.remove(image)
        return True

    def make_network(self, name: str) -> str:
        self.check()
        self.engine.networks.add(name)
        return "172.19.0.0/16"

    def remove_network(self, name: str) -> bool:
        self.engine.networks.discard(name)
        return True

    def gpus(self) -> int:
        return 0

    def check(self) -> None:
        if self.engine.error is not None:
            raise self.engine.error

    def close(self) -> None:
        return None
