"""What an executor is handed with an attempt: commands, limits, signed URLs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.domain.limits import EXECUTOR_URL_S
from scheduler.services.attempts.checkpoints import generations
from scheduler.services.attempts.outputs import grant_of
from scheduler.services.billing.costs import seconds_until_max_cost
from scheduler.services.errors import Invalid
from scheduler.store.models import GroupRow
from scheduler.store.notification_models import Registration
from simherd.contract import objects
from simherd.contract.attempt_spec import AttemptSpec, InputFile
from simherd.contract.notifications import Observer, RegistrationState, TriggerType
from simherd.contract.operations import Metric
from simherd.contract.task_options import TaskOptions

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
    user, valid = task.user_id, EXECUTOR_URL_S
    source = objects.input_path(task.storage_prefix, task.id)
    output = objects.output_path(task.storage_prefix, task.id, task.attempt)
    manifest = objects.manifest_path(task.storage_prefix, task.id, task.attempt)
    try:
        options = TaskOptions.decode(task.extra_params, task.id)
    except ValueError as error:
        raise Invalid(str(error)) from error
    checkpoints = options.checkpoints
    if checkpoints is not None and task.attempt > 1 and generations(session, task.id):
        checkpoints = replace(checkpoints, stored=True)
    return AttemptSpec(
        task_id=task.id,
        attempt=task.attempt,
        image=rt.catalogue.resolve_image(task.container_image),
        commands=options.commands,
        env=options.env,
        run_dir=options.run_dir,
        time_to_live_s=task.time_to_live_s,
        deadline_at=task.deadline_at,
        seconds_for_money=seconds_until_max_cost(session, task),
        group_ends_at=group.auto_terminate_at,
        warning=options.warning,
        stop_grace_s=options.stop_grace_s,
        stall_after_s=options.stall_after_s,
        network=options.network,
        checkpoints=checkpoints,
        restore=options.restore,
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
            url = rt.objects.sign(user, info.path, "download", EXECUTOR_URL_S)
            found.append(InputFile(url, name))
    return found
