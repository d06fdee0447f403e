"""Whether the worker still works: when a job last ended in it, whichever.

A worker may run and respond and yet get no more jobs. Beat sends one every few seconds, so one that
ends none for long has died inside.
"""

from __future__ import annotations

import mmap
import struct
import time
from typing import TYPE_CHECKING

from simherd.contract import limits

if TYPE_CHECKING:
    from collections.abc import Callable

_FORM = "d"


class Canary:
    """Written by the pool's children, read by their parent: it is in memory that they share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, struct.calcsize(_FORM))
        self.sing()

    def sing(self) -> None:
        """A job has ended just now."""
        struct.pack_into(_FORM, self._memory, 0, time.monotonic())

    def trouble(self, broker_answers: Callable[[], bool]) -> str | None:
        """Why the worker is not live, as a sentence; None when it is."""
        (last,) = struct.unpack_from(_FORM, self._memory, 0)
        silent = time.monotonic() - last
        if silent < limits.SILENT_PROCESS_S:
            return None
        if not broker_answers():
            # That no jobs come is not its fault; once they can, it has as long again.
            self.sing()
            return None
        return f"No job has ended in this worker for {silent:.0f} s, and the broker responds."
