"""Detecting a stalled simulation: no output and no CPU time for as long as its task allows."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from simherd.contract.operations import Operation

if TYPE_CHECKING:
    from executor.attempt.context import Attempt

log = logging.getLogger(__name__)

#: CPU share of one core below which a simulation counts as idle: the cost of waiting.
_IDLE_SHARE = 0.01


class StallDetector:
    """Reports a stall as an operation in the task's history; it does not end the attempt."""

    def __init__(self, attempt: Attempt, now: float) -> None:
        self._attempt = attempt
        self._after_s = attempt.spec.stall_after_s
        self._since, self._written, self._cpu_s = now, -1, 0.0
        self._operation: int | None = None

    def look(self, now: float, cpu_s: float) -> None:
        """Compare a sample with the last activity; `now` is monotonic."""
        if not self._after_s:
            return
        written = _log_bytes(self._attempt)
        quiet_s = now - self._since
        if written != self._written or cpu_s - self._cpu_s > _IDLE_SHARE * max(quiet_s, 1.0):
            self._since, self._written, self._cpu_s = now, written, cpu_s
            self.close()
        elif quiet_s >= self._after_s and self._operation is None:
            log.warning("event=stalled attempt=%s for_s=%.0f", self._attempt.spec.key, quiet_s)
            self._operation = self._attempt.begin_operation(
                Operation.STALL, quiet_seconds=round(quiet_s)
            )

    def close(self) -> None:
        """End the operation of a stall, if there is one."""
        if self._operation is not None:
            self._attempt.end_operation(self._operation, "OK", {})
            self._operation = None


def _log_bytes(attempt: Attempt) -> int:
    total = 0
    for file in (attempt.stdout, attempt.stderr):
        try:
            total += os.lstat(file).st_size
        except OSError:
            continue
    return total
