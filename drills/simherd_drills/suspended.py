"""Processes that a drill has suspended.

They are remembered in a file of their machine's folder: an agent that is killed meanwhile leaves
them behind, and nothing else would show whose they are.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import psutil

from simherd.errors import SimherdError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: The file: the number and the start of each, seconds since 1970.
FROZEN = "drill-frozen"
#: Seconds by which the start of the same process may seem to differ, as the host's clock is set.
_SAME_S = 2.0


def suspend(folder: Path, processes: list[psutil.Process]) -> None:
    """Suspend these processes, one after another; those that have ended are skipped.
    Raises SimherdError: one cannot be suspended; those before it are."""
    _remember(folder, processes)
    for process in processes:
        with psutil_errors(process):
            process.suspend()


def resume(folder: Path, processes: list[psutil.Process]) -> bool:
    """Resume these processes and the remembered ones; return whether one was suspended.
    Raises SimherdError: one cannot be resumed; it is still remembered."""
    found = {p.pid: p for p in [*processes, *_remembered(folder)] if _stands_still(p)}
    with contextlib.ExitStack() as each:
        # All of them, whatever becomes of one.
        for process in found.values():
            each.callback(_go_on, process)
    (folder / FROZEN).unlink(missing_ok=True)
    return bool(found)


@contextlib.contextmanager
def psutil_errors(process: psutil.Process) -> Iterator[None]:
    """Raise errors of psutil as sentences; a process that has ended is not an error.
    Raises SimherdError: the operating system refused."""
    try:
        yield
    except psutil.NoSuchProcess:
        pass
    except psutil.Error as error:
        raise SimherdError(f"Process {process.pid}: {error}") from error


def _go_on(process: psutil.Process) -> None:
    with psutil_errors(process):
        process.resume()


def _stands_still(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _remember(folder: Path, processes: Iterable[psutil.Process]) -> None:
    """Write them down, beside those that another drill has left."""
    known = _known(folder)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            known[process.pid] = process.create_time()
    new = folder / f"{FROZEN}.new"
    new.write_text(json.dumps(list(known.items())))
    new.replace(folder / FROZEN)


def _remembered(folder: Path) -> Iterator[psutil.Process]:
    for pid, start in _known(folder).items():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            # The number may have become another's.
            if abs(process.create_time() - start) < _SAME_S:
                yield process


def _known(folder: Path) -> dict[int, float]:
    try:
        return dict(json.loads((folder / FROZEN).read_text()))
    except FileNotFoundError:
        return {}
