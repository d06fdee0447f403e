"""What the scheduler notes for itself in Redis, also where Redis has reached its memory limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simherd.contract.queue import scripts
from simherd.contract.queue.keys import NOTHING

if TYPE_CHECKING:
    import redis


def write_note(client: redis.Redis, key: str, value: str | float, *, is_new: bool = False) -> None:
    """Write a string. `is_new`: unless there is one."""
    script = client.register_script(scripts.source("note"))
    script(keys=[NOTHING, key], args=["new" if is_new else "string", value])
