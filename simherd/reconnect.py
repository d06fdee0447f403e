"""How long an answer that goes on is asked for anew after its connection broke."""

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
    """Counts the time from the first failure on, however long all was well before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._failing_since: float | None = None

    def worked(self) -> None:
        """Something came."""
        self._failures, self._failing_since = 0, None

    def broke(self, error: SimherdError) -> float:
        """The connection broke, or the server refused; answers the seconds until the next try.

        Raises:
            SimherdError: `error`, where another try is in vain.
        """
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        # A server that is just being started anew refuses as a whole, with 5xx.
        final = isinstance(error, ApiError) and error.status < 500
        if final or now - self._failing_since > PATIENCE_S:
            raise error
        self._failures += 1
        return _BACKOFF.after(self._failures)
