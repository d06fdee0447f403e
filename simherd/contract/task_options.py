"""What `extra_params` of a submission ask of an executor: read once, and stored as it was read."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from simherd.contract import limits, objects
from simherd.contract.attempt_spec import Command, DeadlineWarning
from simherd.contract.checkpoints import Checkpoints
from simherd.contract.typed_json import from_json

#: The longest such time that a task may ask for.
MAX_STOP_GRACE_S = 3600.0
#: Signals that a task may ask for instead: those that a program can handle.
WARN_SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT", "SIGTERM")
#: The longest such time that a task may ask for.
MAX_STALL_AFTER_S = 30 * 86400


def _stored_name(task_id: str) -> str:
    """Return the name of the options among what the user sent.

    It names the task, whose id is made after the user has sent it, so that nobody can plant it.
    """
    return f"simherd.options:{task_id}"


@dataclass(frozen=True)
class TaskOptions:
    """The options of a task, checked.

    `processes` says how many processes each of `commands` starts with MPI; 0: it starts none, or
    as many as it likes. `restore` runs in place of `commands` once a checkpoint is back.
    """

    commands: tuple[Command, ...]
    env: dict[str, str] = field(default_factory=dict)
    run_dir: str = ""
    warning: DeadlineWarning = field(default_factory=DeadlineWarning)
    stop_grace_s: float = limits.STOP_GRACE_S
    stall_after_s: float = limits.STALL_AFTER_S
    network: bool = False
    checkpoints: Checkpoints | None = None
    restore: tuple[Command, ...] = ()
    processes: tuple[int, ...] = ()

    @classmethod
    def read(cls, extra_params: dict[str, Any]) -> TaskOptions:
        """Read what a user sent; names that are not known are left out.
        Raises ValueError: naming the field."""
        commands = _read_commands(extra_params.get("commands"))
        seconds = partial(_seconds, extra_params)
        signal = extra_params.get("warn_signal") or limits.WARN_SIGNAL
        if signal not in WARN_SIGNALS:
            known = ", ".join(WARN_SIGNALS)
            raise ValueError(f"extra_params.warn_signal: {signal!r} is not one of {known}.")
        network = extra_params.get("network") or False
        if not isinstance(network, bool):
            raise ValueError(f"extra_params.network: {network!r} is neither true nor false.")
        checkpoints, restore = _read_checkpoint(extra_params.get("checkpoint"))
        return cls(
            commands=commands,
            env=_texts(extra_params.get("env") or {}, "extra_params.env"),
            run_dir=_read_run_dir(extra_params.get("run_subprocess_dir") or ""),
            warning=DeadlineWarning(
                signal, seconds("warn_before_s", limits.WARN_BEFORE_S, limits.MAX_TTL_S)
            ),
            stop_grace_s=seconds("stop_grace_s", limits.STOP_GRACE_S, MAX_STOP_GRACE_S),
            stall_after_s=seconds("stall_after_s", limits.STALL_AFTER_S, MAX_STALL_AFTER_S),
            network=network,
            checkpoints=checkpoints,
            restore=restore,
            processes=tuple(_processes(raw) for raw in extra_params["commands"]),
        )

    def encode(self, extra_params: dict[str, Any], task_id: str) -> dict[str, Any]:
        """Return what the store keeps: the options, beside what the user sent."""
        return {**extra_params, _stored_name(task_id): asdict(self)}

    @classmethod
    def decode(cls, stored: dict[str, Any], task_id: str) -> TaskOptions:
        """Read what `encode` returned, or what a release before it stored: what the user sent.

        Raises:
            ValueError: naming the field.
        """
        options = stored.get(_stored_name(task_id))
        return cls.read(stored) if options is None else from_json(cls, options, "options")


def as_sent(stored: dict[str, Any], task_id: str) -> dict[str, Any]:
    """Return what the user sent of what the store keeps."""
    return {name: value for name, value in stored.items() if name != _stored_name(task_id)}


def _short(value: Any) -> str:
    """Return a value as a message shows it."""
    return repr(value)[:200]


def _seconds(extra_params: dict[str, Any], name: str, default: float, most: float) -> float:
    value = extra_params.get(name)
    if value is None:
        return default
    # A NaN is in no range.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(
            f"extra_params.{name}: {value!r} is not a number of seconds from 0 to {most:.0f}."
        )
    return float(value)


def _read_checkpoint(given: Any) -> tuple[Checkpoints | None, tuple[Command, ...]]:
    """Return what is to be saved, and what runs once it is back; empty: the task's commands."""
    if not given:
        return None, ()
    try:
        checkpoints = Checkpoints.read(given)
    except ValueError as error:
        raise ValueError(f"extra_params.{error}") from error
    restore = given.get("restore") if isinstance(given, dict) else None
    if not restore:
        return checkpoints, ()
    try:
        return checkpoints, _read_commands([restore] if isinstance(restore, str) else restore)
    except ValueError as error:
        raise ValueError(f"extra_params.checkpoint.restore: {error}") from error


def _texts(given: Any, where: str) -> dict[str, str]:
    """Return variables of an environment; numbers and truth values as Python writes them."""
    if not isinstance(given, dict):
        raise ValueError(f"{where}: an object of texts is needed, not {_short(given)}.")
    for name, value in given.items():
        if not name or "=" in name:
            raise ValueError(f"{where}: {_short(name)} cannot be a variable's name.")
        if isinstance(value, dict | list):
            raise ValueError(f"{where}.{name[:80]}: a text is needed, not {_short(value)}.")
    return {name: str(value) for name, value in given.items()}


def _read_run_dir(given: Any) -> str:
    where = "extra_params.run_subprocess_dir"
    if not isinstance(given, str):
        raise ValueError(f"{where}: a text is needed, not {_short(given)}.")
    if given in {"", "."}:
        return ""
    if given.startswith("/"):
        raise ValueError(f"{where}: {_short(given)} is not relative to the task's folder.")
    try:
        return objects.normalise("/".join(p for p in given.split("/") if p != "."))
    except ValueError as error:
        raise ValueError(f"{where}: {error}.") from error


def _read_commands(given: Any) -> tuple[Command, ...]:
    """Return the commands, each split into arguments as a shell would."""
    if not isinstance(given, list) or not given:
        raise ValueError("extra_params.commands: a list of at least one command is needed.")
    return tuple(_read_command(f"extra_params.commands[{i}]", c) for i, c in enumerate(given))


def _read_command(where: str, raw: Any) -> Command:
    if isinstance(raw, str):
        raw = {"cmd": raw}
    if not isinstance(raw, dict) or not isinstance(raw.get("cmd"), str):
        raise ValueError(
            f"{where}: an object with the text field 'cmd' is needed, not {_short(raw)}."
        )
    try:
        argv = shlex.split(raw["cmd"])
    except ValueError as error:
        raise ValueError(f"{where}.cmd: {raw['cmd']!r} cannot be split: {error}.") from error
    if not argv or any("\0" in a for a in argv):
        raise ValueError(f"{where}.cmd: {raw['cmd']!r} names no program.")
    prompts, env = raw.get("prompts") or [], raw.get("env") or {}
    if not isinstance(prompts, list) or not isinstance(env, dict):
        raise ValueError(f"{where}: 'prompts' is a list of texts and 'env' an object.")
    config = raw.get("mpi_config")
    return Command(
        (*_mpi_prefix(config, f"{where}.mpi_config"), *argv),
        tuple(str(p) for p in prompts),
        _texts(env, f"{where}.env"),
        mpi=isinstance(config, dict),
    )


def _mpi_prefix(config: Any, where: str) -> list[str]:
    """Return `mpirun` and its flags: a true one stands alone, a false one is left out."""
    if not isinstance(config, dict):
        return []
    options = config.get("options") or {}
    if not isinstance(options, dict):
        raise ValueError(f"{where}.options: an object is needed, not {_short(options)}.")
    flags: list[str] = []
    for name, value in options.items():
        if value is True:
            flags.append(f"--{name}")
        elif value is not False:
            flags += [f"--{name}", str(value)]
    return ["mpirun", *flags]


def _processes(raw: Any) -> int:
    """Return how many processors an MPI command needs; 0: none is known, or they may be shared."""
    config = raw.get("mpi_config") if isinstance(raw, dict) else None
    options = (config.get("options") or {}) if isinstance(config, dict) else {}
    if any("oversubscribe" in f"{k}={v}".lower() for k, v in options.items()):
        return 0
    number = next((options[name] for name in ("np", "n") if name in options), 0)
    if isinstance(number, str) and number.isdecimal() and len(number) < 19:
        return int(number)
    return number if type(number) is int else 0
