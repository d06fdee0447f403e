"""Which cause an attempt ends with, and the sentence that proves it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from executor.attempt.errors import StageFailed
from simherd.contract.cause import OUTCOMES, Cause
from simherd.utils import format_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from executor.attempt.context import Attempt
    from executor.containers.base import Exit

_SIGNALS = frozenset(signal.Signals)
#: How many files the message about a full disk names.
_LARGEST = 10


def decide(attempt: Attempt) -> None:
    """Decide with which cause the commands ended or were stopped.
    Raises StageFailed: an earlier agent crashed before it reported how the commands ended."""
    state, ended, stopped = attempt.state, attempt.state.last_exit, attempt.switch.cause
    state.cause = stopped
    if stopped is Cause.SPOT_RECLAIMED or attempt.switch.without_outputs:
        return
    if stopped is Cause.DISK_LIMIT:
        state.detail = disk_detail(attempt)
    elif stopped is None:
        if ended is None or (ended.code == 0 and _commands_are_missing(attempt)):
            detail = "The executor crashed before it reported how the commands ended."
            raise StageFailed(Cause.MACHINE_LOST, detail)
        state.cause, state.detail = exit_cause(attempt, ended)
    state.exit_code = ended.code if ended else None


def _commands_are_missing(attempt: Attempt) -> bool:
    """Whether an earlier agent stopped computing before the last command, and did not say why."""
    done = attempt.progress
    return done.computed and done.commands < len(attempt.commands)


def exit_cause(attempt: Attempt, ended: Exit) -> tuple[Cause, str | None]:
    """Return the cause with which the commands ended by themselves, and its evidence.

    What the kernel refused counts before the exit code. A full disk counts even before exit code
    0, because the file written last is probably incomplete. A program that was denied memory or a
    process and still ends with 0 lost a child process that it did not need.
    """
    peaks = attempt.state.peaks
    if attempt.volume.is_full():
        return Cause.DISK_LIMIT, disk_detail(attempt)
    if ended.code == 0:
        return Cause.COMPLETED, None
    if ended.oom or peaks.oom_kills:
        limit = attempt.memory_limit
        at_most = f"limit {format_bytes(limit)}, " if limit else ""
        what = OUTCOMES[Cause.OUT_OF_MEMORY].sentence[:-1]
        return Cause.OUT_OF_MEMORY, f"{what}: {at_most}peak {format_bytes(peaks.memory_bytes)}."
    if peaks.pids_refused:
        what = OUTCOMES[Cause.PIDS_LIMIT].sentence[:-1]
        limit = attempt.config.policy.pids
        return Cause.PIDS_LIMIT, f"{what}: limit {limit}, peak {peaks.processes}."
    message = f" {ended.message}" if ended.message else ""
    by = f" ({signal.Signals(ended.signal).name})" if ended.signal in _SIGNALS else ""
    return Cause.NONZERO_EXIT, f"A command ended with exit code {ended.code}{by}.{message}"


def disk_detail(attempt: Attempt) -> str:
    """Return a sentence with the limit, the use, and the largest files."""
    what = OUTCOMES[Cause.DISK_LIMIT].sentence[:-1]
    limit, used = format_bytes(attempt.volume.limit), format_bytes(attempt.volume.used())
    # Before the inputs are unpacked, there is no work folder.
    folder = attempt.work if attempt.work.exists() else attempt.folder
    files = ", ".join(f"{name} {format_bytes(size)}" for size, name in _largest(folder))
    return f"{what}: limit {limit}, use {used}. Largest files: {files or 'none'}."


def _largest(folder: Path) -> list[tuple[int, str]]:
    files: list[tuple[int, str]] = []
    for inside, _, names, fd in os.fwalk(folder):
        for name in names:
            try:
                size = os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
            except OSError:
                continue
            files.append((size, os.path.relpath(os.path.join(inside, name), folder)))
            if len(files) > 100 * _LARGEST:
                files = sorted(files, reverse=True)[:_LARGEST]
    return sorted(files, reverse=True)[:_LARGEST]
