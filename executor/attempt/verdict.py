"""Which cause an attempt ended with, and the sentence that proves it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from simherd.contract.cause import OUTCOMES, Cause
from simherd.utils import format_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from executor.attempt.context import Attempt
    from executor.containers.base import Exit

_SIGNALS = frozenset(signal.Signals)
#: How many files a full disk is explained by.
_LARGEST = 10


def exit_cause(attempt: Attempt, ended: Exit) -> tuple[Cause, str | None]:
    """The cause by which the commands ended by themselves, with its evidence.

    What the kernel refused counts before the exit code. A full disk does so even before 0: what was
    written last is likely cut. A program that was denied memory or a process and still ends with 0
    has lost a child that it could do without.
    """
    peaks = attempt.peaks
    if attempt.area.is_full():
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
    told = f" {ended.message}" if ended.message else ""
    by = f" ({signal.Signals(ended.signal).name})" if ended.signal in _SIGNALS else ""
    return Cause.NONZERO_EXIT, f"A command ended with exit code {ended.code}{by}.{told}"


def disk_detail(attempt: Attempt) -> str:
    """Limit, use, and what takes the most."""
    what = OUTCOMES[Cause.DISK_LIMIT].sentence[:-1]
    limit, used = format_bytes(attempt.area.limit), format_bytes(attempt.area.used())
    # Before the inputs are laid out, there is no work folder.
    place = attempt.work if attempt.work.exists() else attempt.folder
    files = ", ".join(f"{name} {format_bytes(size)}" for size, name in _largest(place))
    return f"{what}: limit {limit}, use {used}. Largest files: {files or 'none'}."


def _largest(folder: Path) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for inside, _, names, fd in os.fwalk(folder):
        for name in names:
            try:
                size = os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
            except OSError:
                continue
            found.append((size, os.path.relpath(os.path.join(inside, name), folder)))
            if len(found) > 100 * _LARGEST:
                found = sorted(found, reverse=True)[:_LARGEST]
    return sorted(found, reverse=True)[:_LARGEST]
