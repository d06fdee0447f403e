"""What an executor is handed with an attempt: commands, limits, signed URLs."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from scheduler.services.attempts.checkpoints import generations
from scheduler.services.attempts.outputs import grant_of
from scheduler.services.billing.costs import seconds_until_max_cost
from scheduler.services.errors import Invalid
from scheduler.store.event_models import Registration
from scheduler.store.models import GroupRow
from simherd.contract import limits, objects
from simherd.contract.attempt_spec import AttemptSpec, Command, DeadlineWarning, InputFile
from simherd.contract.checkpoints import Checkpoints
from simherd.contract.notifications import Observer, RegistrationState, TriggerType
from simherd.contract.operations import Metric

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.store.models import TaskRow
    from scheduler.wiring import Runtime


def build_spec(rt: Runtime, task: TaskRow) -> AttemptSpec:
    """What the executor of a task's current attempt is to be handed."""
    with rt.store.read() as session:
        return spec_of(rt, session, task, session.get_one(GroupRow, task.group_id))


def spec_of(rt: Runtime, session: Session, task: TaskRow, group: GroupRow) -> AttemptSpec:
    """The same for many tasks: what is not asked for is not looked up."""
    user, valid = task.user_id, limits.EXECUTOR_URL_S
    source = objects.input_path(task.storage_prefix, task.id)
    output = objects.output_path(task.storage_prefix, task.id, task.attempt)
    manifest = objects.manifest_path(task.storage_prefix, task.id, task.attempt)
    extra = task.extra_params
    stored = bool(extra.get("checkpoint") and task.attempt > 1 and generations(session, task.id))
    return AttemptSpec(
        task_id=task.id,
        attempt=task.attempt,
        image=rt.catalogue.resolve_image(task.container_image),
        commands=tuple(read_commands(extra)),
        env=_read_env(extra),
        run_dir=_read_run_dir(extra),
        time_to_live_s=task.time_to_live_s,
        deadline_at=task.deadline_at,
        seconds_for_money=seconds_until_max_cost(session, task),
        group_ends_at=group.auto_terminate_at,
        warning=_read_warning(extra),
        stop_grace_s=_read_grace(extra),
        stall_after_s=_read_stall(extra),
        network=wants_network(extra),
        checkpoints=_read_checkpoints(extra, stored=stored),
        restore=tuple(_read_restore(extra)),
        observers=observers_of(session, task.id) if task.watched else (),
        resubmit=task.resubmit,
        input_bytes=_input_bytes(task),
        input_url=rt.objects.sign(user, source, "download", valid) if task.has_input else None,
        output_put_url=rt.objects.sign(user, output, "upload", valid),
        manifest_put_url=rt.objects.sign(user, manifest, "upload", valid),
        grant=grant_of(rt, task.id, task.attempt),
        compress=task.compress_with != objects.UNCOMPRESSED,
        input_files=tuple(_input_files(rt, user, task.input_resources)),
        shared_inputs=tuple(
            rt.objects.sign(user, objects.normalise(path), "download", valid)
            for path in task.shared_inputs
        ),
    )


def _input_bytes(task: TaskRow) -> int | None:
    noted = task.metrics.get(Metric.INPUT_ZIPPED_SIZE_BYTES.value) if task.metrics else None
    return None if noted is None else int(noted)


def observers_of(session: Session, task_id: str) -> tuple[Observer, ...]:
    """What an executor of the task is still to look for."""
    rows = session.scalars(
        select(Registration)
        .where(
            Registration.task_id == task_id,
            Registration.trigger_type == TriggerType.OBSERVER.value,
            Registration.state == RegistrationState.WAITING.value,
        )
        .order_by(Registration.created_at)
    )
    return tuple(Observer(row.id, row.file_path or "", row.regex) for row in rows)


def _input_files(rt: Runtime, user: str, paths: list[str]) -> list[InputFile]:
    """The remote assets: a file under its own name, a folder with its first part dropped."""
    found: list[InputFile] = []
    for path in map(objects.normalise, paths):
        single = rt.objects.stat(user, path)
        infos = [single] if single else list(rt.objects.list(user, path))
        for info in infos:
            name = info.path.rsplit("/", 1)[-1] if single else info.path.partition("/")[2]
            url = rt.objects.sign(user, info.path, "download", limits.EXECUTOR_URL_S)
            found.append(InputFile(url, name))
    return found


def check_extra_params(extra_params: dict[str, Any]) -> None:
    """Refuse what could not be handed to an executor.

    Raises:
        Invalid: naming the field.
    """
    read_commands(extra_params)
    _read_env(extra_params)
    _read_run_dir(extra_params)
    _read_warning(extra_params)
    _read_grace(extra_params)
    _read_stall(extra_params)
    _read_checkpoints(extra_params, stored=False)
    _read_restore(extra_params)
    wants_network(extra_params)


def wants_network(extra_params: dict[str, Any]) -> bool:
    """Whether the task asks for the network. Raises Invalid."""
    given = extra_params.get("network") or False
    if not isinstance(given, bool):
        raise Invalid(f"extra_params.network: {given!r} is neither true nor false.")
    return given


def _read_checkpoints(extra_params: dict[str, Any], *, stored: bool) -> Checkpoints | None:
    given = extra_params.get("checkpoint")
    if not given:
        return None
    try:
        return replace(Checkpoints.read(given), stored=stored)
    except ValueError as error:
        raise Invalid(f"extra_params.{error}") from error


def _read_restore(extra_params: dict[str, Any]) -> list[Command]:
    given = extra_params.get("checkpoint")
    again = given.get("restore") if isinstance(given, dict) else None
    if not again:
        return []
    try:
        return read_commands({"commands": [again] if isinstance(again, str) else again})
    except Invalid as error:
        raise Invalid(f"extra_params.checkpoint.restore: {error}") from error


def _read_env(extra_params: dict[str, Any]) -> dict[str, str]:
    return _texts(extra_params.get("env") or {}, "extra_params.env")


def _texts(given: Any, where: str) -> dict[str, str]:
    """Variables of an environment; numbers and truth values as Python writes them.

    Raises:
        Invalid: it is no object, or a name or a value cannot be a variable's.
    """
    if not isinstance(given, dict):
        raise Invalid(f"{where}: an object of texts is needed, not {_short(given)}.")
    for name, value in given.items():
        if not name or "=" in name:
            raise Invalid(f"{where}: {_short(name)} cannot be a variable's name.")
        if isinstance(value, dict | list):
            raise Invalid(f"{where}.{name[:80]}: a text is needed, not {_short(value)}.")
    return {name: str(value) for name, value in given.items()}


def _short(value: Any) -> str:
    """A value as a message shows it."""
    return repr(value)[:200]


def _read_run_dir(extra_params: dict[str, Any]) -> str:
    given = extra_params.get("run_subprocess_dir") or ""
    where = "extra_params.run_subprocess_dir"
    if not isinstance(given, str):
        raise Invalid(f"{where}: a text is needed, not {_short(given)}.")
    if given in {"", "."}:
        return ""
    if given.startswith("/"):
        raise Invalid(f"{where}: {_short(given)} is not relative to the task's folder.")
    try:
        return objects.normalise("/".join(p for p in given.split("/") if p != "."))
    except ValueError as error:
        raise Invalid(f"{where}: {error}.") from error


def _read_warning(extra_params: dict[str, Any]) -> DeadlineWarning:
    signal = extra_params.get("warn_signal") or limits.WARN_SIGNAL
    if signal not in limits.WARN_SIGNALS:
        known = ", ".join(limits.WARN_SIGNALS)
        raise Invalid(f"extra_params.warn_signal: {signal!r} is none of {known}.")
    before = _seconds(extra_params, "warn_before_s", limits.WARN_BEFORE_S, limits.MAX_TTL_S)
    return DeadlineWarning(str(signal), before)


def _read_grace(extra_params: dict[str, Any]) -> float:
    return _seconds(extra_params, "stop_grace_s", limits.STOP_GRACE_S, limits.MAX_STOP_GRACE_S)


def _read_stall(extra_params: dict[str, Any]) -> float:
    most = limits.MAX_STALL_AFTER_S
    return _seconds(extra_params, "stall_after_s", limits.STALL_AFTER_S, most)


def _seconds(extra_params: dict[str, Any], name: str, default: float, most: float) -> float:
    given = extra_params.get(name)
    if given is None:
        return default
    # A NaN is in no range.
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= most:
        raise Invalid(
            f"extra_params.{name}: {given!r} is no number of seconds from 0 to {most:.0f}."
        )
    return float(given)


def read_commands(extra_params: dict[str, Any]) -> list[Command]:
    """The commands of a submission, each split into arguments as a shell would.

    Raises:
        Invalid: there are none, or one is not of the contract's form.
    """
    raw = extra_params.get("commands")
    if not isinstance(raw, list) or not raw:
        raise Invalid("extra_params.commands: a list of at least one command is needed.")
    return [_read_command(i, c) for i, c in enumerate(raw)]


def _read_command(index: int, raw: Any) -> Command:
    where = f"extra_params.commands[{index}]"
    if isinstance(raw, str):
        raw = {"cmd": raw}
    if not isinstance(raw, dict) or not isinstance(raw.get("cmd"), str):
        raise Invalid(f"{where}: an object with the text field 'cmd' is needed, not {_short(raw)}.")
    try:
        argv = shlex.split(raw["cmd"])
    except ValueError as error:
        raise Invalid(f"{where}.cmd: {raw['cmd']!r} cannot be split: {error}.") from error
    if not argv or any("\0" in a for a in argv):
        raise Invalid(f"{where}.cmd: {raw['cmd']!r} names no program.")
    prompts, env = raw.get("prompts") or [], raw.get("env") or {}
    if not isinstance(prompts, list) or not isinstance(env, dict):
        raise Invalid(f"{where}: 'prompts' is a list of texts and 'env' an object.")
    mpi = _mpi_prefix(raw.get("mpi_config"), f"{where}.mpi_config")
    return Command(
        tuple(mpi + argv),
        tuple(str(p) for p in prompts),
        _texts(env, f"{where}.env"),
        mpi=isinstance(raw.get("mpi_config"), dict),
    )


def _mpi_prefix(config: Any, where: str) -> list[str]:
    """`mpirun` and its flags; a flag that is true stands alone, one that is false is left out.

    Raises:
        Invalid: the options are not an object.
    """
    if not isinstance(config, dict):
        return []
    options = config.get("options") or {}
    if not isinstance(options, dict):
        raise Invalid(f"{where}.options: an object is needed, not {_short(options)}.")
    flags: list[str] = []
    for name, value in options.items():
        if value is True:
            flags.append(f"--{name}")
        elif value is not False:
            flags += [f"--{name}", str(value)]
    return ["mpirun", *flags]


def check_processes(extra_params: dict[str, Any], most: int) -> None:
    """Refuse an MPI command of more processes than machines have processors: it cannot start.

    Args:
        extra_params: those of a submission, checked by `check_extra_params`.
        most: processors of all machines that run the task together.

    Raises:
        Invalid: naming the command.
    """
    for index, raw in enumerate(extra_params["commands"]):
        config = raw.get("mpi_config") if isinstance(raw, dict) else None
        options = (config.get("options") or {}) if isinstance(config, dict) else {}
        # Who says so may have several processes share a processor.
        if any("oversubscribe" in f"{k}={v}".lower() for k, v in options.items()):
            continue
        wanted = next((options[name] for name in ("np", "n") if name in options), None)
        if isinstance(wanted, str) and wanted.isdecimal() and len(wanted) < 19:
            wanted = int(wanted)
        if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > most:
            raise Invalid(
                f"extra_params.commands[{index}].mpi_config.options.np: {wanted} processes are "
                f"more than the {most} processors of the group's machines. Ask for fewer, or for "
                "a group of larger machines."
            )
