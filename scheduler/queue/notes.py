"""Marks that the scheduler keeps in Redis, written even at the memory limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simherd.contract.queue import scripts
from simherd.contract.queue.keys import NOTHING

if TYPE_CHECKING:
    import redis


def write_note(client: redis.Redis, key: str, value: str | float, *, is_new: bool = False) -> None:
    """Write a string; with `is_new` only where there is none."""
    script = client.register_script(scripts.source("note"))
    script(keys=[NOTHING, key], args=["new" if is_new else "string", value])
