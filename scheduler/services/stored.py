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
    until: float


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

    def forget(self, user_id: str) -> None:
        """List a user's storage anew the next time: its user has just changed it."""
        with self._lock:
            self._known.pop(user_id, None)

    def bytes_of(self, user_id: str) -> int:
        """Bytes that a user has stored, as of a minute ago at the worst, or longer with many."""
        begun = time.monotonic()
        with self._lock:
            known = self._known.get(user_id)
        if known is not None and begun < known.until:
            return known.size
        size = sum(info.size for info in self._objects.list(user_id, ""))
        took = time.monotonic() - begun
        fresh = max(self._fresh_s, took * _FRESH_FACTOR)
        with self._lock:
            self._known[user_id] = _Known(size, time.monotonic() + fresh)
        return size
