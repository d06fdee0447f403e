"""The images that this machine pulled, and when each was last used."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class ImageCache:
    """Evicts only what an agent pulled: other images might not come back."""

    def __init__(self, file: Path, remove: Callable[[str], bool]) -> None:
        self._file = file
        self._remove = remove
        self._lock = threading.Lock()
        try:
            self._used: dict[str, float] = json.loads(file.read_text())
        except (OSError, ValueError):
            self._used = {}

    def used(self, image: str, *, pulled: bool) -> None:
        """Note that an attempt uses an image now."""
        with self._lock:
            if pulled or image in self._used:
                self._used[image] = time.time()
                self._save()

    def evict(self, enough: Callable[[], bool], in_use: frozenset[str]) -> list[str]:
        """Remove images, the least recently used first, until there is room; return them."""
        evicted: list[str] = []
        with self._lock:
            for image in sorted(self._used, key=self._used.__getitem__):
                if enough():
                    break
                if image not in in_use and self._remove(image):
                    del self._used[image]
                    evicted.append(image)
            if evicted:
                self._save()
        return evicted

    def _save(self) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(self._used))
        temporary.replace(self._file)
