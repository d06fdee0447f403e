"""Simulators: a folder of inputs becomes a task.

Those of `simulators.toml` are classes of this module (`simulators.SplishSplash`);
`CustomImage` runs any commands in any container image.
"""

from __future__ import annotations

import functools
import inspect
import shlex
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from simherd.contract.checkpoints import Checkpoints
from simherd.errors import InvalidInput
from simherd.http import api
from simherd.utils import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from simherd.resources import MachineGroup
    from simherd.submission import Submission
    from simherd.tasks import Task

P = ParamSpec("P")
S = TypeVar("S")

#: What the contract calls a task that is a list of commands; all are.
_WIRE_SIMULATOR = "arbitrary_commands"


@functools.cache
def _catalogue() -> Mapping[str, dict[str, Any]]:
    text = files("simherd").joinpath("simulators.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _submitted(
    describe: Callable[Concatenate[S, P], Submission],
) -> Callable[Concatenate[S, P], Task]:
    """Make the description of a task a method that submits it: one signature serves `run`, which
    submits one, and `run_sweep`, which submits many."""

    @functools.wraps(describe)
    def run(self: S, /, *given: P.args, **named: P.kwargs) -> Task:
        from simherd.submission import submit

        return submit(describe(self, *given, **named))

    return run


class Simulator:
    """What all simulators have in common; made from a row of the catalogue."""

    def __init__(self, row: Mapping[str, Any], version: str | None = None) -> None:
        self._row = row
        self.image = _image_of(row["image"], version) if "image" in row else ""

    @_submitted
    def run(
        self,
        /,
        input_dir: str | Path | None = None,
        *,
        on: MachineGroup | str | None = None,
        commands: Iterable[str | Mapping[str, Any]] | None = None,
        env: Mapping[str, str] | None = None,
        n_vcpus: int | None = None,
        storage_dir: str = "",
        project: str | None = None,
        time_to_live: str | float | None = None,
        max_cost: float | None = None,
        warn_before: str | float | None = None,
        warn_signal: str | None = None,
        stop_grace: str | float | None = None,
        stall_after: str | float | None = None,
        network: bool = False,
        compress: bool = True,
        resubmit_on_preemption: bool = False,
        checkpoint: Iterable[str] | Mapping[str, Any] | bool | None = None,
        checkpoint_every: str | None = None,
        priority: int = 0,
        remote_assets: str | list[str] | None = None,
        shared_dir: str | Path | None = None,
        files: Mapping[str, str | bytes] | None = None,
        metadata: Mapping[str, str] | None = None,
        client_key: str | None = None,
        **parameters: str,
    ) -> Submission:
        """Submit a task; it runs by itself from then on.

        Args:
            input_dir: the folder of inputs; None where none are needed.
            on: the machine group, or its name; by default the server's default group, or else
                the user's only group that is started.
            commands: command lines, each a text or a mapping with `cmd`, and optionally
                `prompts` (lines for its standard input), `env` and `mpi_config`. Only for
                simulators whose commands are not fixed.
            env: environment variables of all commands.
            n_vcpus: processes of an MPI command; by default as many as the machine has.
            storage_dir: a folder of the user's storage to keep the task's files in.
            project: the project to put the task in; made where there is none.
            time_to_live: how long the commands may run, such as `1h30m`.
            max_cost: US$ that the task's machines may cost, over all of its attempts; it is stopped
                when they have, and keeps what it has put out.
            warn_before: how long before the end of its time or money the commands are sent a
                signal, so that they can write a checkpoint; by default 60 seconds.
            warn_signal: that signal; by default SIGUSR1.
            stop_grace: how long the commands have after SIGTERM, when they are stopped, until
                SIGKILL; by default 30 seconds.
            stall_after: without output and CPU time for so long, the task is said to stall in its
                history; by default 30 minutes, 0 for never.
            network: let the commands use the network, where the machine group allows it.
            compress: compress the outputs; without, they are stored as they are.
            resubmit_on_preemption: run the task again when its machine is lost.
            checkpoint: patterns, relative to the work folder, of the files that a simulation can
                go on from, such as `["*.cpt"]`: they are saved while it runs, and are back where
                they were when it runs again. A mapping with `files` may also have `restore`: the
                command lines that run in place of the task's own once they are back. True: what
                the catalogue knows of the simulator.
            checkpoint_every: time between two savings; by default 10 minutes.
            priority: from -100 to 100; tasks with a higher one go first.
            remote_assets: paths in the user's storage to put beside the inputs.
            shared_dir: a folder of inputs that many tasks have. It is stored once in the user's
                storage, by its content; files of `input_dir` and `files` go over it.
            files: more input files: name → content.
            metadata: texts to keep with the task, see `Task.set_metadata`.
            client_key: a name for this submission. Another one with the same name and the same
                arguments is the same task; with others it is refused.
            parameters: what the simulator itself needs; see `simulators.toml`.

        Raises:
            InvalidInput: an argument is not usable; nothing was sent.
            ApiError: the server refused.
            TransferError: the inputs could not be uploaded; the task is killed.
        """
        from simherd.submission import Submission

        if max_cost is not None and not 0 < max_cost < float("inf"):
            raise InvalidInput(f"max_cost: {max_cost} must be more than zero US$.")
        folder = None if input_dir is None else Path(input_dir)
        assets = [remote_assets] if isinstance(remote_assets, str) else list(remote_assets or [])
        return Submission(
            simulator=_WIRE_SIMULATOR,
            alias=self._row.get("alias", self._row.get("image")),
            image=self.image,
            commands=self._commands(folder, commands, n_vcpus, parameters),
            env=dict(env or {}),
            warn_before_s=_seconds(warn_before, "warn_before"),
            warn_signal=warn_signal,
            stop_grace_s=_seconds(stop_grace, "stop_grace"),
            stall_after_s=0.0 if stall_after == 0 else _seconds(stall_after, "stall_after"),
            network=network,
            compress=compress,
            input_dir=folder,
            group=on,
            storage_dir=storage_dir,
            project=project,
            time_to_live_s=_seconds(time_to_live, "time_to_live"),
            max_cost=max_cost,
            resubmit=resubmit_on_preemption,
            checkpoint=self._checkpoint(checkpoint, checkpoint_every),
            priority=priority,
            remote_assets=assets,
            shared_dir=None if shared_dir is None else Path(shared_dir),
            files={n: _bytes(d) for n, d in (files or {}).items()},
            metadata=dict(metadata or {}),
            client_key=client_key,
        )

    def run_sweep(
        self, cases: Iterable[Mapping[str, Any]], *, client_key: str | None = None, **common: Any
    ) -> list[Task]:
        """Submit one task for each case, all of them or none.

        Args:
            cases: arguments of `run`, of each task; they go over `common`.
            client_key: as in `run`, for the whole sweep.
            common: arguments of `run` that all tasks have. Of `env` and `metadata`, those of a
                case are added; a folder `shared_dir` is uploaded once.

        Example:
            simulator.run_sweep(
                [{"files": {"speed.txt": str(v)}, "metadata": {"speed": str(v)}} for v in range(9)],
                shared_dir="mesh",
                commands=["./solve speed.txt"],
            )

        Raises:
            InvalidInput: an argument of a case is not usable; nothing was sent.
            ApiError: the server refused; no task was made.
            TransferError: inputs could not be uploaded; tasks without them are killed.
        """
        from simherd.submission import submit_all

        wanted = []
        for index, case in enumerate(cases):
            given = {**common, **case}
            for name in ("env", "metadata"):
                given[name] = {**(common.get(name) or {}), **(case.get(name) or {})}
            if client_key is not None:
                given["client_key"] = f"{client_key}-{index}"
            try:
                wanted.append(inspect.unwrap(type(self).run)(self, **given))
            except (InvalidInput, TypeError) as error:
                raise InvalidInput(f"cases[{index}]: {error}") from error
        return submit_all(wanted) if wanted else []

    def _checkpoint(
        self, given: Iterable[str] | Mapping[str, Any] | bool | None, every: str | None
    ) -> dict[str, Any] | None:
        if given is True:
            given = self._row.get("checkpoint")
            if given is None:
                name = type(self).__name__
                raise InvalidInput(f"checkpoint: nothing is known of {name}; name its files.")
        if not given:
            return None
        if isinstance(given, str):
            given = [given]
        wanted = dict(given) if isinstance(given, Mapping) else {"files": list(given)}
        if every is not None:
            wanted["every_s"] = _seconds(every, "checkpoint_every")
        try:
            Checkpoints.read(wanted)
        except ValueError as error:
            raise InvalidInput(str(error)) from error
        return wanted

    def _commands(
        self,
        folder: Path | None,
        given: Iterable[str | Mapping[str, Any]] | None,
        n_vcpus: int | None,
        parameters: Mapping[str, str],
    ) -> list[dict[str, Any]]:
        values = self._values(folder, parameters)
        fixed = self._row.get("commands")
        if fixed is not None:
            if given is not None:
                raise InvalidInput(f"commands: those of {type(self).__name__} are fixed.")
            return [_from_template(c, values, n_vcpus) for c in fixed]
        found = [_from_user(i, c) for i, c in enumerate(_listed(given))]
        if not found:
            raise InvalidInput("commands: at least one is needed.")
        return found

    def _values(self, folder: Path | None, given: Mapping[str, str]) -> dict[str, str]:
        wanted: Mapping[str, Any] = self._row.get("parameters", {})
        for name in given:
            if name not in wanted:
                known = f" It has: {', '.join(wanted)}." if wanted else ""
                raise InvalidInput(f"{name}: {type(self).__name__} has no such argument.{known}")
        for name, rule in wanted.items():
            if not given.get(name):
                raise InvalidInput(f"{name}: {type(self).__name__} needs it.")
            if rule.get("file") and not (folder and (folder / given[name]).is_file()):
                raise InvalidInput(f"{name}: there is no file {given[name]!r} in {str(folder)!r}.")
        return dict(given)


class CustomImage(Simulator):
    """Any commands in any container image.

    Example:
        CustomImage("docker://python:3.12").run("my-case", commands=["python3 main.py"])
    """

    def __init__(self, container_image: str) -> None:
        super().__init__({})
        if not container_image.strip():
            raise InvalidInput("container_image: an image's name is needed.")
        self.image = container_image


def list_available_images() -> dict[str, dict[str, list[str]]]:
    """The simulator images that the server offers: `production` and `development`, each simulator
    with its version tags."""
    found: dict[str, dict[str, list[str]]] = api().get("/simulators/available-images")
    return found


def _image_of(name: str, version: str | None) -> str:
    """The image reference for a version of a simulator, the newest one by default."""
    listed = list_available_images()["production"].get(name, [])
    versions = sorted({tag.partition("_")[0] for tag in listed}, key=_version_key)
    if not versions:
        raise InvalidInput(f"The server's catalogue has no image of {name}.")
    if version is not None and version not in versions:
        raise InvalidInput(f"version: {version!r} is not one of {', '.join(versions)}.")
    return f"docker://inductiva/kutu:{name}_v{version or versions[-1]}"


def _version_key(version: str) -> list[tuple[int, str]]:
    return [(int(p), "") if p.isdigit() else (-1, p) for p in version.split(".")]


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _listed(given: Any) -> list[Any]:
    if isinstance(given, str):
        raise InvalidInput(f"commands: a list is needed, not the text {given!r}.")
    return list(given or [])


def _seconds(given: str | float | None, name: str) -> float | None:
    return None if given is None else parse_duration(given, name)


def _from_template(template: Any, values: Mapping[str, str], n_vcpus: int | None) -> dict[str, Any]:
    row: dict[str, Any] = {"cmd": template} if isinstance(template, str) else dict(template)
    quoted = {name: shlex.quote(value) for name, value in values.items()}
    command: dict[str, Any] = {"cmd": row["cmd"].format(**quoted), "prompts": [], "env": {}}
    if "mpi" in row:
        options = dict(row["mpi"])
        if n_vcpus is not None:
            options["np"] = n_vcpus
        command["mpi_config"] = {"version": "4.1.6", "options": options}
    return command


def _from_user(index: int, given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        given = {"cmd": given}
    if not isinstance(given, Mapping):
        raise InvalidInput(f"commands[{index}]: {given!r} is neither text nor mapping.")
    row = dict(given)
    unknown = set(row) - {"cmd", "prompts", "env", "mpi_config"}
    if unknown or not isinstance(row.get("cmd"), str) or not row["cmd"].strip():
        raise InvalidInput(
            f"commands[{index}]: {given!r} needs the text 'cmd', and may have 'prompts', "
            "'env' and 'mpi_config'."
        )
    return {"prompts": [], "env": {}, **row}


def __getattr__(name: str) -> Any:
    row = _catalogue().get(name)
    if row is None:
        raise AttributeError(f"module 'simherd.simulators' has no attribute {name!r}")

    def init(self: Simulator, version: str | None = None) -> None:
        Simulator.__init__(self, row, version)

    made = type(name, (Simulator,), {"__init__": init, "__doc__": f"The simulator {name}."})
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted([*_catalogue(), "CustomImage", "Simulator", "list_available_images"])
