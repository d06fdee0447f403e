"""Waiting for a condition, never for time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
#: Seconds between two looks for what is long in coming.
_LONGEST_PAUSE_S = 0.1


def until(
    look: Callable[[], T | None], *, timeout_s: float = 120, what: str = "the condition"
) -> T:
    """Look until the answer is true, and answer it; fail with the last answer after a while."""
    began = time.monotonic()
    pause = threading.Event()
    while True:
        looked = time.monotonic()
        seen = look()
        if seen:
            return seen
        now = time.monotonic()
        if now - began > timeout_s:
            raise AssertionError(f"waited {timeout_s} s for {what}; last seen: {seen!r}")
        # What is long in coming is looked for less often, and what costs much to look for: the
        # looking must leave time for what it waits for.
        pause.wait(max(min(0.02 + (now - began) / 10, _LONGEST_PAUSE_S), 2 * (now - looked)))
