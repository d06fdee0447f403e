"""One attempt from its claim to its last report: the stages in order, and how it ends."""

from __future__ import annotations

import errno
import functools
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from executor.attempt.context import Attempt, MpiMachines
from executor.attempt.errors import StageFailed, Stopped
from executor.attempt.stages.commands import recall_exit, run_commands
from executor.attempt.stages.hand_back import hand_back
from executor.attempt.stages.outputs import upload_outputs
from executor.attempt.stages.prepare import prepare, recall_preparation
from executor.attempt.stages.start import start
from executor.attempt.verdict import decide, disk_detail
from executor.observability import table
from executor.observability.instruments import inc
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.reports import ReportKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.attempt.recovery import Progress

log = logging.getLogger(__name__)

#: The errors of writing to a full disk.
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Stage:
    """One step of an attempt, and what a restarted agent does about it."""

    name: str
    run: Callable[[Attempt], None]
    #: Whether an earlier agent completed it; then `recall` runs in place of `run`.
    is_done: Callable[[Progress], bool] = lambda _: False
    recall: Callable[[Attempt], None] = lambda _: None
    #: Whether the attempt does not need it, restarted or not.
    skip_if: Callable[[Attempt], bool] = lambda _: False
    #: A stage that was interrupted begins again; else it continues where it was.
    repeats: bool = True


#: docs/recovery.md explains the rule of each stage.
STAGES = (
    Stage("start", start, is_done=lambda p: p.started, recall=Attempt.close_operations),
    Stage("prepare", prepare, is_done=lambda p: p.computing, recall=recall_preparation),
    Stage(
        "commands", run_commands, is_done=lambda p: p.computed, recall=recall_exit, repeats=False
    ),
    # While the outputs are uploaded, the next attempt may compute.
    Stage("release_slot", lambda a: a.slot.give()),
    Stage("decide", decide),
    Stage(
        "hand_back",
        hand_back,
        skip_if=lambda a: not _is_reclaimed(a) or a.switch.without_outputs,
    ),
    Stage(
        "outputs",
        upload_outputs,
        is_done=lambda p: p.stored,
        skip_if=lambda a: _is_reclaimed(a) or a.switch.without_outputs,
    ),
)


def _is_reclaimed(attempt: Attempt) -> bool:
    return attempt.state.cause is Cause.SPOT_RECLAIMED


def with_machines(stages: tuple[Stage, ...], machines: MpiMachines) -> tuple[Stage, ...]:
    """Return the stages with those around them that other machines of an MPI group need."""
    gather = Stage("gather_machines", lambda _: machines.gather(), is_done=lambda p: p.computed)
    wait = Stage("wait_for_machines", lambda _: machines.wait(), is_done=lambda p: p.computing)
    release = Stage("release_machines", lambda _: machines.disband())

    def around(stage: Stage) -> tuple[Stage, ...]:
        if stage.name == "prepare":
            return gather, stage, wait
        if stage.name == "commands":
            run = functools.partial(run_commands, machines=machines)
            return replace(stage, run=run), release
        return (stage,)

    return tuple(new for stage in stages for new in around(stage))


def run_attempt(attempt: Attempt, machines: MpiMachines | None = None) -> None:
    """Run one attempt, or what is left of it, and report how it ended. Never raises for a failure
    of the attempt. `machines`: those of an MPI group that it leads."""
    key, state = attempt.spec.key, attempt.state
    log.info("event=attempt_started attempt=%s", key)
    stages = STAGES if machines is None else with_machines(STAGES, machines)
    cause, detail, exit_code = Cause.AGENT_ERROR, None, None
    try:
        for stage in stages:
            if stage.skip_if(attempt):
                continue
            if stage.is_done(attempt.progress):
                log.info("event=stage_recalled attempt=%s stage=%s", key, stage.name)
                stage.recall(attempt)
            else:
                stage.run(attempt)
        cause, detail, exit_code = _ending(attempt)
    except Stopped as stopped:
        cause = stopped.cause
    except StageFailed as failed:
        cause, detail = attempt.switch.cause or failed.cause, failed.detail
    except OSError as error:
        cause, detail = _machine_failure(attempt, error)
    except Exception as error:
        # Whatever it is, the task must end: the cause goes to the user, the trace to the log.
        log.exception("event=attempt_broke attempt=%s", key)
        detail = f"{OUTCOMES[cause].sentence[:-1]}: {type(error).__name__}: {error}"
    finally:
        if machines is not None:
            machines.disband()
        attempt.slot.give()
        attempt.volume.close()
        attempt.series.unlink(missing_ok=True)
    inc(table.ENDED, cause.value)
    log.info("event=attempt_ended attempt=%s cause=%s", key, cause)
    if detail is None and state.stop_detail is not None and state.stop_detail[0] is cause:
        detail = state.stop_detail[1]
    if cause is not Cause.LEASE_LOST:
        attempt.report(
            ReportKind.FINISHED,
            cause=cause.value,
            detail=detail,
            exit_code=exit_code,
            saved=state.saved,
        )


def _ending(attempt: Attempt) -> tuple[Cause, str | None, int | None]:
    """Return the cause, its sentence and the exit code after the last stage."""
    state, tripped = attempt.state, attempt.switch.cause
    assert state.cause is not None
    # A kill during the upload ends the task all the same; a machine that is reclaimed does not.
    if _is_reclaimed(attempt) or tripped in {None, Cause.SPOT_RECLAIMED, state.cause}:
        return state.cause, state.detail, state.exit_code
    return tripped, None, state.exit_code


def _machine_failure(attempt: Attempt, error: OSError) -> tuple[Cause, str]:
    """A full disk is the task's fault; any other error is one of this machine."""
    if error.errno in _DISK_FULL:
        return Cause.DISK_LIMIT, disk_detail(attempt)
    log.exception("event=attempt_broke attempt=%s", attempt.spec.key, exc_info=error)
    return Cause.AGENT_ERROR, f"{OUTCOMES[Cause.AGENT_ERROR].sentence[:-1]}: {error}"
