"""Moments that a process wrote down itself, when it started."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def stamp_command(path: Path) -> list[str]:
    """A command that writes the time at which it runs to `path`."""
    return ["sh", "-c", f"date +%s.%N > '{path}.new' && mv '{path}.new' '{path}'"]


def wait_for_stamp(path: Path, timeout_s: float = 60) -> float:
    """The moment that was written to `path`, once it is there."""
    end = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} was not written within {timeout_s} s")
        time.sleep(0.002)
    return float(path.read_text())
