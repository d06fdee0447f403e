"""Signals for those processes that handle them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The signals that a process has handlers for, as a bit mask: see proc(5).
_CAUGHT = re.compile(rb"^SigCgt:\s*([0-9a-f]+)$", re.MULTILINE)


def warn(pids: Iterable[int], name: str) -> int:
    """Send the signal `name` to each process that handles it; return their number."""
    number = signal.Signals[name]
    count = 0
    for pid in pids:
        if _handles(pid, number):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                count += 1
    return count


def _handles(pid: int, number: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            caught = _CAUGHT.search(file.read())
    except OSError:
        return False
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
