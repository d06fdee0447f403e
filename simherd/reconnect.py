"""How long a stream is opened again after its connection broke."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from simherd.errors import ApiError, SimherdError
from simherd.http import PATIENCE_S
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

_BACKOFF = Backoff(0.2, 5.0)


class ReconnectPolicy:
    """Counts the time since the first failure in a row, however long the stream worked before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._failing_since: float | None = None

    def received(self) -> None:
        """Note that something was received: the next failure is the first."""
        self._failures, self._failing_since = 0, None

    def pause_after(self, error: SimherdError) -> float:
        """Note a failure and return the seconds until the next try.
        Raises SimherdError: `error`, where another try cannot succeed."""
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        # A server that is restarting refuses every request with 5xx.
        final = isinstance(error, ApiError) and error.status < 500
        if final or now - self._failing_since > PATIENCE_S:
            raise error
        self._failures += 1
        return _BACKOFF.after(self._failures)
