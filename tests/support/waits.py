"""Waiting for a condition, never for time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def until(look: Callable[[], T | None], *, timeout_s: float = 60, what: str = "the condition") -> T:
    """Look until the answer is true, and answer it; fail with the last answer after a while."""
    end = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        began = time.monotonic()
        seen = look()
        if seen:
            return seen
        now = time.monotonic()
        if now > end:
            raise AssertionError(f"waited {timeout_s} s for {what}; last seen: {seen!r}")
        # A look that costs much, such as a command, leaves time for what it waits for.
        pause.wait(max(0.02, 2 * (now - began)))
