"""How long to wait before another try."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Doublings after which every wait is the longest: more would overflow a float.
_MOST_DOUBLINGS = 60


@dataclass(frozen=True)
class Backoff:
    """Waits that double from `first` to `longest` seconds, times a random factor in `jitter`."""

    first: float
    longest: float
    jitter: tuple[float, float] = (1.0, 1.0)

    def after(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row; the first one counts as 1."""
        doubled: float = self.first * 2 ** min(failures - 1, _MOST_DOUBLINGS)
        return min(doubled, self.longest) * random.uniform(*self.jitter)

    def waits(self) -> Iterator[float]:
        """Return the waits after the first failure, the second, and so on without an end."""
        return map(self.after, itertools.count(1))
