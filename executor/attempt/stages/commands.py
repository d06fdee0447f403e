"""Running the commands, in order, until one fails or the switch is tripped."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shlex
import stat
import threading
import time
from typing import TYPE_CHECKING

from executor.attempt.deadline import Deadline, DeadlineCheck
from executor.attempt.errors import StageFailed, Stopped
from executor.attempt.recovery import OpenOperation, exit_attributes
from executor.attempt.resource_monitor import ResourceMonitor
from executor.containers.base import ContainerError, ContainerLost, ContainerSpec, Exit, Running
from executor.observability import table
from executor.observability.instruments import timed
from simherd.contract import limits
from simherd.contract.cause import Cause
from simherd.contract.checkpoints import FOLDER
from simherd.contract.labels import ATTEMPT, HOLDER, TASK
from simherd.contract.objects import COMMAND_MARK
from simherd.contract.operations import Operation
from simherd.contract.reports import ReportKind
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from pathlib import Path

    from executor.attempt.context import Attempt, MpiMachines
    from simherd.contract.attempt_spec import Command

#: Seconds before a group's time limit at which its tasks are stopped, so that what they have put
#: out can be stored.
GROUP_END_AHEAD_S = 30.0
#: What stdout.txt and stderr.txt may each grow to, bytes.
LOG_LIMIT_BYTES = 256 * 1024**2

log = logging.getLogger(__name__)

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def run_commands(attempt: Attempt, machines: MpiMachines | None = None) -> None:
    """Run the attempt's commands, and keep how the last one ended.

    Continues the command that an earlier agent started, if it can. `machines`: the other machines
    of an MPI group.

    Raises:
        StageFailed: a container could not be run.
        Stopped: the switch was tripped before the first command.
    """
    done = attempt.progress
    _set_group_end(attempt)
    if done.computing:
        if done.deadline is not None:
            attempt.deadline.set(done.deadline)
        if done.money_until is not None:
            attempt.deadline.set(done.money_until, Cause.COST_LIMIT)
    else:
        attempt.switch.check()
        for file in (attempt.stdout, attempt.stderr):
            _fresh_log(attempt, file)
        at, money_until = _set_deadline(attempt), _set_money(attempt)
        attempt.report(ReportKind.COMPUTATION_STARTED, deadline=at, money_until=money_until)
    try:
        with attempt.observers:
            _run_all(attempt, machines)
    finally:
        attempt.report(ReportKind.COMPUTATION_ENDED)
        attempt.report_metrics(**attempt.state.peaks.metrics())


def recall_exit(attempt: Attempt) -> None:
    """Take the exit of the last command from what an earlier agent reported."""
    attempt.state.last_exit = attempt.progress.last_exit


def _run_all(attempt: Attempt, machines: MpiMachines | None) -> None:
    done, state = attempt.progress, attempt.state
    state.last_exit = done.last_exit
    for index in range(done.commands, len(attempt.commands)):
        resumed = done.command if index == done.commands else None
        if state.last_exit is not None and state.last_exit.code != 0:
            break
        if attempt.switch.cause is not None and resumed is None:
            break
        # Stopped: an earlier agent began the command but not its container, and now it must not.
        with contextlib.suppress(Stopped):
            state.last_exit = _run_one(attempt, index, resumed, machines)


def _fresh_log(attempt: Attempt, file: Path) -> None:
    """Create an empty log, also if the inputs hold a file or a link of its name."""
    if file.is_dir() and not file.is_symlink():
        detail = f"The inputs hold a folder {file.name!r}; that name is taken for the log."
        raise StageFailed(Cause.INPUT_INVALID, detail)
    file.unlink(missing_ok=True)
    file.touch(mode=0o644)
    attempt.state.inputs.pop(file.name, None)


def _run_one(
    attempt: Attempt, index: int, resumed: OpenOperation | None, machines: MpiMachines | None
) -> Exit:
    command = attempt.commands[index]
    line = shlex.join(command.argv)
    spec = container_spec(attempt, index, command)
    if not command.mpi:
        machines = None
    running: Running | None = None
    try:
        with attempt.operation(Operation.EXEC_COMMAND, resumed=resumed, command=line) as result:
            try:
                if machines is not None:
                    spec = machines.add_mpi_mounts(spec, index)
                running = _start(attempt, spec, line, resumed)
                attempt.state.running = running
                ended = _wait(attempt, running)
                if ended.code and machines is not None:
                    machines.diagnose_failure()
            except ContainerLost as error:
                raise StageFailed(Cause.MACHINE_LOST, str(error)) from error
            except ContainerError as error:
                raise StageFailed(Cause.AGENT_ERROR, str(error)) from error
            if ended.message:
                _write_line(attempt, f"# {ended.message}\n", attempt.stderr)
            result |= exit_attributes(ended)
    finally:
        # Last: to a restarted agent, a command without a container never ran.
        attempt.state.running = None
        if running is not None:
            running.remove()
    return ended


def _start(
    attempt: Attempt, spec: ContainerSpec, line: str, resumed: OpenOperation | None
) -> Running:
    """Start a command, or adopt the container that an earlier agent started."""
    if resumed is not None:
        running = attempt.backend.adopt(spec)
        if running is not None:
            log.info("event=command_adopted attempt=%s", attempt.spec.key)
            return running
        attempt.switch.check()
    _write_line(attempt, f"{COMMAND_MARK}{line}\n", attempt.stdout, attempt.stderr)
    with timed(table.START_SECONDS):
        return attempt.backend.start(spec)


def _write_line(attempt: Attempt, line: str, *logs: Path) -> None:
    """Write a line of the agent between the outputs of the commands."""
    for path in logs:
        # A simulation may have replaced the log with a link or a pipe: a link is not followed,
        # and a pipe without a reader does not block.
        with contextlib.suppress(OSError):
            descriptor = os.open(path, _APPEND, 0o644)
            with os.fdopen(descriptor, "a") as file:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    file.write(line)


def _set_deadline(attempt: Attempt) -> float | None:
    """Set the time limit, unless an earlier attempt did; returns it in seconds since the epoch."""
    spec = attempt.spec
    at = spec.deadline_at
    if at is None and spec.time_to_live_s is not None:
        at = time.time() + spec.time_to_live_s
    if at is not None:
        attempt.deadline.set(at)
    return at


def _set_group_end(attempt: Attempt) -> None:
    """Stop a little before the group ends, because outputs must be stored before that."""
    ends_at = attempt.spec.group_ends_at
    if ends_at is not None:
        left = ends_at - time.time()
        ahead = min(GROUP_END_AHEAD_S, max(0.0, left) / 10)
        attempt.deadline.set(ends_at - ahead, Cause.GROUP_TIME_LIMIT)


def _set_money(attempt: Attempt) -> float | None:
    """Set when the money for the task is spent; returns it in seconds since the epoch. The
    scheduler may correct the time: it knows what the machine costs."""
    seconds = attempt.spec.seconds_for_money
    if seconds is None:
        return None
    assert attempt.state.started_at is not None
    at = attempt.state.started_at + seconds * attempt.config.slots
    attempt.deadline.set(at, Cause.COST_LIMIT)
    return at


def _wait(attempt: Attempt, running: Running) -> Exit:
    """Wait for a command while a second thread waits for a reason to warn or to stop it."""
    over = threading.Event()
    deadline, switch, state = attempt.deadline, attempt.switch, attempt.state

    def guard() -> None:
        while not over.is_set():
            changed = functools.partial(_changed, over, deadline, deadline.moves)
            tripped = switch.wait(deadline.left(time.monotonic()), changed)
            if over.is_set():
                return
            due = deadline.due(time.monotonic())
            if not tripped and due is DeadlineCheck.WARN:
                count = running.warn(attempt.spec.warning.signal)
                log.info("event=deadline_warning attempt=%s processes=%s", attempt.spec.key, count)
            elif tripped or due is DeadlineCheck.STOP:
                switch.trip(deadline.cause or Cause.TASK_TIME_LIMIT)
                if state.timetable is not None and running.warn(attempt.spec.warning.signal):
                    # The simulation may save its state before it is stopped.
                    over.wait(state.timetable.stop_in_s)
                running.stop(_grace(attempt))
                return

    thread = threading.Thread(target=in_context(guard), name=f"guard-{attempt.spec.key}")
    thread.start()
    try:
        with ResourceMonitor(attempt, running), attempt.checkpointer or contextlib.nullcontext():
            ended = running.wait(None)
        assert ended is not None
        if ended.oom:
            state.peaks.ran_out(attempt.memory_limit)
        return ended
    finally:
        over.set()
        attempt.switch.wake()
        thread.join()


def _changed(over: threading.Event, deadline: Deadline, moves: int) -> bool:
    return over.is_set() or deadline.moves != moves


def _grace(attempt: Attempt) -> float:
    """Return the seconds between SIGTERM and SIGKILL: few if the machine itself stops."""
    timetable = attempt.state.timetable
    if timetable is not None:
        return min(attempt.spec.stop_grace_s, timetable.kill_in_s)
    stops = attempt.switch.cause in {Cause.AGENT_STOPPED, Cause.GROUP_TERMINATED}
    return limits.AGENT_STOP_S / 2 if stops else attempt.spec.stop_grace_s


def _run_variables(attempt: Attempt) -> dict[str, str]:
    """Return the environment variables that describe the run to the simulation."""
    deadline, restored = attempt.deadline.wall_time, attempt.state.restored
    return {
        "SIMHERD_TASK_ID": attempt.spec.task_id,
        "SIMHERD_ATTEMPT": str(attempt.spec.attempt),
        "SIMHERD_DEADLINE": "" if deadline is None else f"{deadline:.0f}",
        "SIMHERD_RESTORED": "" if restored is None else str(restored),
    }


def container_spec(attempt: Attempt, index: int, command: Command) -> ContainerSpec:
    """Return the container of one of the attempt's commands."""
    spec, config = attempt.spec, attempt.config
    deadline = attempt.deadline.wall_time
    return ContainerSpec(
        name=f"simherd-{spec.task_id}-{spec.attempt}-{index}",
        image=spec.image,
        work_dir=attempt.work,
        argv=command.argv,
        stdout=attempt.stdout,
        stderr=attempt.stderr,
        cwd=spec.run_dir or ".",
        env={**spec.env, **command.env, **_run_variables(attempt)},
        paths={} if spec.checkpoints is None else {"SIMHERD_CHECKPOINT_DIR": FOLDER},
        stdin="".join(f"{p}\n" for p in command.prompts).encode(),
        labels={
            HOLDER: config.executor_id,
            TASK: spec.task_id,
            ATTEMPT: str(spec.attempt),
            "simherd.deadline": "" if deadline is None else f"{deadline:.0f}",
        },
        memory_bytes=attempt.memory_limit or None,
        cpus=config.policy.cpus or max(0.1, config.vcpus / config.slots),
        policy=config.policy,
        network=spec.network,
        log_limit_bytes=LOG_LIMIT_BYTES,
    )
