"""One attempt from its claim to its last report, top to bottom."""

from __future__ import annotations

import errno
import functools
import logging
import threading
import time
from typing import TYPE_CHECKING

from executor.archive import load_stamps
from executor.attempt.checkpointer import make_folder
from executor.attempt.context import StageFailed
from executor.attempt.stages.commands import run_commands
from executor.attempt.stages.image import fetch_image
from executor.attempt.stages.inputs import fetch_inputs
from executor.attempt.stages.outputs import store_outputs
from executor.attempt.stages.restore import restore
from executor.attempt.stop import Stopped
from executor.attempt.verdict import disk_detail, exit_cause
from executor.observability import table
from executor.observability.instruments import inc
from executor.transfer.client import TransferFailed
from simherd.contract.cause import OUTCOMES, Cause
from simherd.contract.reports import ReportKind
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from executor.attempt.context import Attempt
    from executor.config import Config

log = logging.getLogger(__name__)

#: Seconds an image pull that nobody waits for any more has to end when the agent stops: the engine
#: may hold one for minutes, and the process' end is its end.
PULL_JOIN_S = 1.0
#: What writing to a full disk raises.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def run_attempt(attempt: Attempt) -> None:
    """Run one attempt, or what is left of it, and report how it ended.

    Never raises for the attempt's own troubles.
    """
    key = attempt.spec.key
    log.info("event=attempt_started attempt=%s", key)
    cause, detail, exit_code = Cause.AGENT_ERROR, None, None
    try:
        attempt.started_at = attempt.progress.started_at or time.time()
        if not attempt.progress.started:
            attempt.report(ReportKind.STARTED, executer=machine_of(attempt.config))
        attempt.close_operations()
        cause, detail, exit_code = _stages(attempt)
    except Stopped as stopped:
        cause = stopped.cause
    except StageFailed as failed:
        cause, detail = attempt.switch.cause or failed.cause, failed.detail
    except OSError as error:
        cause, detail = _machine_trouble(attempt, error)
    except Exception as error:
        # Whatever it is, the task must end: the cause goes to the user, the trace to the log.
        log.exception("event=attempt_broke attempt=%s", key)
        detail = f"{OUTCOMES[cause].sentence[:-1]}: {type(error).__name__}: {error}"
    finally:
        if attempt.gang is not None:
            attempt.gang.disband()
        attempt.slot.give()
        attempt.area.close()
        attempt.series.unlink(missing_ok=True)
    inc(table.ENDED, cause.value)
    log.info("event=attempt_ended attempt=%s cause=%s", key, cause)
    if detail is None and attempt.told is not None and attempt.told[0] is cause:
        detail = attempt.told[1]
    if cause is not Cause.LEASE_LOST:
        attempt.report(
            ReportKind.FINISHED,
            cause=cause.value,
            detail=detail,
            exit_code=exit_code,
            saved=attempt.saved,
        )


def _stages(attempt: Attempt) -> tuple[Cause, str | None, int | None]:
    done = attempt.progress
    if attempt.gang is not None and not done.computed:
        attempt.gang.gather()
    if done.computing:
        attempt.inputs = load_stamps(attempt.stamps)
        attempt.peaks.recall(attempt.series)
        attempt.restored = done.restored
    else:
        (attempt.fetching or functools.partial(fetch, attempt))()
        attempt.note(restored=attempt.restored)
        if attempt.gang is not None:
            attempt.gang.wait()
    ended = done.last_exit if done.computed else run_commands(attempt)
    if attempt.gang is not None:
        attempt.gang.disband()
    # While the outputs are uploaded, the next attempt may compute.
    attempt.slot.give()
    stopped = attempt.switch.cause
    if stopped is not None and attempt.switch.without_outputs:
        return stopped, None, None
    if stopped is Cause.SPOT_RECLAIMED:
        return (*hand_back(attempt), None)
    detail = None
    if stopped is Cause.DISK_LIMIT:
        detail = disk_detail(attempt)
    elif stopped is None and ended is not None:
        stopped, detail = exit_cause(attempt, ended)
    if not done.stored:
        # From here on a kill or a time limit waits for the outputs; a lost lease does not.
        with _only_fenced(attempt):
            store_outputs(attempt)
            attempt.saved["outputs"] = True
    # A kill that came meanwhile is the task's end all the same; a machine that goes is not.
    tripped = attempt.switch.cause
    cause = stopped if tripped in {None, Cause.SPOT_RECLAIMED} else tripped
    assert cause is not None
    return cause, detail if cause is stopped else None, ended.code if ended else None


def hand_back(attempt: Attempt) -> tuple[Cause, str]:
    """Save of a stopped attempt what the time allows; answers its cause and a sentence.

    A checkpoint comes first. Outputs follow where no other attempt will make them.
    """
    assert attempt.times is not None
    attempt.transfer = attempt.transfer.paused_by(attempt.times.pause(attempt.switch))
    told = []
    try:
        if attempt.saver is not None:
            generation = attempt.saver.save_now()
            if generation is not None:
                attempt.saved["generation"] = generation
                told.append(f"Checkpoint {generation} was saved.")
        if not (attempt.spec.resubmit and attempt.saver is not None):
            store_outputs(attempt)
            attempt.saved["outputs"] = True
            told.append("Its outputs until then were stored.")
    except (StageFailed, TransferFailed, OSError) as error:
        log.warning("event=not_saved attempt=%s error=%s", attempt.spec.key, error)
        told.append(f"Not everything could be saved: {error}")
    sentence = OUTCOMES[Cause.SPOT_RECLAIMED].sentence
    return Cause.SPOT_RECLAIMED, " ".join([sentence, *told])


def _machine_trouble(attempt: Attempt, error: OSError) -> tuple[Cause, str]:
    """A full disk is the task's own; anything else is this machine's."""
    if error.errno in _FULL:
        return Cause.DISK_LIMIT, disk_detail(attempt)
    log.exception("event=attempt_broke attempt=%s", attempt.spec.key, exc_info=error)
    return Cause.AGENT_ERROR, f"{OUTCOMES[Cause.AGENT_ERROR].sentence[:-1]}: {error}"


def fetch(attempt: Attempt) -> None:
    """Fetch the image beside the inputs: they come from different places.

    Raises:
        StageFailed: something cannot be had.
        Stopped: the switch was tripped.
    """
    failures: list[Exception] = []
    fetched = threading.Event()

    def image() -> None:
        try:
            fetch_image(attempt)
        except Exception as error:
            failures.append(error)
        finally:
            fetched.set()
            attempt.switch.wake()

    # A registry that is silent holds its thread for minutes, and nobody can call it back. An
    # attempt that is stopped leaves it behind; whatever it still fetches is there for the next.
    name = f"image-{attempt.spec.key}"
    thread = threading.Thread(target=in_context(image), name=name, daemon=True)
    attempt.left_behind.append(thread)
    thread.start()
    fetch_inputs(attempt)
    if attempt.spec.checkpoints is not None:
        try:
            make_folder(attempt)
        except FileExistsError as error:
            detail = "The inputs hold a file 'checkpoint'; that name is taken for the folder."
            raise StageFailed(Cause.INPUT_INVALID, detail) from error
        if attempt.spec.checkpoints.stored:
            attempt.restored = restore(attempt)
    attempt.switch.wait(None, fetched.is_set)
    attempt.switch.check()
    thread.join()
    if failures:
        raise failures[0]


class _only_fenced:  # reads as the statement that it is
    """Within it the transfers heed nothing but a lost lease."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def __enter__(self) -> None:
        switch = self._attempt.switch

        def pause(seconds: float) -> None:
            if switch.without_outputs:
                switch.check()
            if self._attempt.times is not None:
                self._attempt.times.pause(switch)(seconds)
                return
            if seconds:
                threading.Event().wait(seconds)

        self._old, self._attempt.transfer = (
            self._attempt.transfer,
            self._attempt.transfer.paused_by(pause),
        )

    def __exit__(self, *_: object) -> None:
        self._attempt.transfer = self._old


def machine_of(config: Config) -> dict[str, object]:
    """The machine, as a task that runs there tells of it."""
    return {
        "uuid": config.executor_id,
        "cpu_count_logical": config.vcpus,
        "cpu_count_physical": max(1, config.vcpus // 2),
        "memory": config.memory_bytes,
        "n_mpi_hosts": config.machines if config.mpi else 1,
        "vm_type": config.machine_type,
        "vm_name": config.executor_name,
        "error_detail": None,
        # Beyond the contract: among so many tasks the machine's price is divided.
        "slots": config.slots,
    }
