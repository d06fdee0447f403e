"""Reading a task's log: relayed while it runs, from the stored outputs afterwards."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from scheduler.objects.archive import list_zip, raw_range
from scheduler.objects.base import NoSuchObject
from simherd.contract import limits, objects
from simherd.contract.lifecycle import TERMINAL
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.spec import attempt_key

if TYPE_CHECKING:
    import redis

    from scheduler.store.models import Task
    from scheduler.wiring import Parts

#: Bytes of a stored log that are served at the most: its end.
_STORED_MAX = 1024 * 1024


def read_log(parts: Parts, task: Task, stream: str, after: str, wait_s: float) -> dict[str, Any]:
    """What a task wrote after a cursor.

    A cursor is the byte offset that was reached, so that it means the same for the relayed
    and for the stored log.

    Returns:
        `text`, the new `cursor`, and `ended` when no more will come.
    """
    offset = int(after) if after.isdigit() else 0
    if task.status in TERMINAL:
        data, total = _stored(parts, task, stream, offset)
        return {"cursor": str(total), "text": data.decode(errors="replace"), "ended": True}
    if not task.machine_id or not task.attempt:
        return {"cursor": after, "text": "", "ended": False}
    key = attempt_key(task.id, task.attempt)
    parts.queue.watch_log(task.group_id, task.machine_id, key)
    log = GroupKeys(task.group_id).log(key, stream)
    text, cursor = _relayed(parts.queue.client, log, offset, wait_s)
    return {"cursor": str(cursor), "text": text, "ended": False}


def _relayed(client: redis.Redis, log: str, offset: int, wait_s: float) -> tuple[str, int]:
    """Entries hold the offset of their end; ids are `END-0`, so an offset finds its place."""
    position = f"{offset}-0"
    found: Any = client.xread({log: position}, count=limits.LIVE_LOG_ENTRIES)
    if not found and wait_s > 0:
        # Shorter than the client's socket timeout, whatever was asked for.
        wait_ms = int(min(wait_s, 4) * 1000)
        found = client.xread({log: position}, count=limits.LIVE_LOG_ENTRIES, block=wait_ms)
    if isinstance(found, dict):
        found = [(k, v[0] if v and isinstance(v[0], list) else v) for k, v in found.items()]
    entries = found[0][1] if found else []
    text = "".join(fields.get("t", "") for _, fields in entries)
    cursor = int(entries[-1][0].partition("-")[0]) if entries else offset
    return text, cursor


def _stored(parts: Parts, task: Task, stream: str, offset: int) -> tuple[bytes, int]:
    path = objects.output_path(task.storage_prefix, task.id, max(1, task.attempt))
    name = f"{objects.OUTPUT_ROOT}/{stream}.txt"
    try:
        members = list_zip(parts.objects, task.user_id, path).members
    except (NoSuchObject, ValueError):
        return b"", offset
    for member in members:
        if member.name == name and member.compressed_size <= 64 * _STORED_MAX:
            first, last = raw_range(parts.objects, task.user_id, path, member)
            raw = parts.objects.read(task.user_id, path, first, last - first + 1)
            data = zlib.decompress(raw, -15) if member.compress_type else raw
            return data[max(offset, len(data) - _STORED_MAX) :], len(data)
    return b"", offset
