"""How much a user has stored: listed, and then believed for a while."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduler.objects.base import ObjectStore

#: Seconds for which a listing is believed at the least.
_FRESH_S = 60.0
#: So many times as long as it took it is believed at the least: listing what holds very many
#: objects is never more than a small part of what a process does.
_FRESH_FACTOR = 20


@dataclass
class _Known:
    size: int
    at: float
    took: float


class StoredBytes:
    """Counts by listing the storage. Safe to use from several threads; each process has its own.

    Only the storage itself knows what is there: users put files beside those of tasks, replace
    and delete them, by URLs that lead past the scheduler.
    """

    def __init__(self, objects: ObjectStore, fresh_s: float = _FRESH_S) -> None:
        """Nothing is listed yet. `fresh_s`: seconds for which an answer is good at the least."""
        self._objects = objects
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def bytes_of(self, user_id: str, fresh_s: float | None = None) -> int:
        """Bytes that a user has stored, as of a minute ago at the worst, or longer with many.

        `fresh_s`: seconds for which an answer is good for this question, instead of a minute; with
        many objects it is good for longer all the same.
        """
        begun = time.monotonic()
        least = self._fresh_s if fresh_s is None else fresh_s
        with self._lock:
            known = self._known.get(user_id)
        if known is not None and begun < known.at + max(least, known.took * _FRESH_FACTOR):
            return known.size
        size = sum(info.size for info in self._objects.list(user_id, ""))
        now = time.monotonic()
        with self._lock:
            self._known[user_id] = _Known(size, now, now - begun)
        return size
