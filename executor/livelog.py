"""Relaying the logs of running attempts, while somebody looks."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import redis

from executor.link.connection import connect
from simherd.contract import limits
from simherd.contract.queue.keys import GroupKeys

if TYPE_CHECKING:
    from pathlib import Path

    from executor.link.connection import Address

log = logging.getLogger(__name__)

#: Seconds between two looks at the files of an attempt that is being watched.
_TICK_S = 0.25
#: Bytes before the end of a log from which a first look starts.
_FIRST_LOOK = 64 * 1024


class LiveLogs:
    """A thread that sleeps until somebody watches, then sends on what the logs grow by."""

    def __init__(self, where: str | Address, group: str) -> None:
        self._client = connect(where)
        self._keys = GroupKeys(group)
        self._changed = threading.Condition()
        self._files: dict[str, dict[str, Path]] = {}
        self._until: dict[str, float] = {}
        self._offsets: dict[tuple[str, str], int] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="livelogs")

    def start(self) -> None:
        """Begin to wait for watchers."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and join."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._client.close()

    def add(self, attempt: str, files: dict[str, Path]) -> None:
        """An attempt's logs (stream name → file), which may not be there yet."""
        with self._changed:
            self._files[attempt] = files

    def drop(self, attempt: str) -> None:
        """The attempt has ended."""
        with self._changed:
            files = self._files.pop(attempt, {})
            self._until.pop(attempt, None)
            for stream in files:
                self._offsets.pop((attempt, stream), None)

    def watch(self, attempt: str) -> None:
        """Somebody looks at an attempt's logs: relay them for a while."""
        with self._changed:
            self._until[attempt] = time.monotonic() + limits.LIVE_LOG_WATCH_S
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._until)
                if self._closed:
                    return
                now = time.monotonic()
                self._until = {a: t for a, t in self._until.items() if t > now}
                watched = [(a, self._files[a]) for a in self._until if a in self._files]
            for attempt, files in watched:
                for stream, path in files.items():
                    self._relay(attempt, stream, path)
            with self._changed:
                self._changed.wait_for(lambda: self._closed, _TICK_S)

    def _relay(self, attempt: str, stream: str, path: Path) -> None:
        key = (attempt, stream)
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                offset = self._offsets.get(key, max(0, size - _FIRST_LOOK))
                file.seek(offset)
                data = file.read(limits.LIVE_LOG_CHUNK)
        except OSError:
            return
        if not data:
            return
        # A character of several bytes may not be cut: what follows the last line waits.
        cut = data.rfind(b"\n") + 1 or len(data)
        data = data[:cut]
        name = self._keys.log(attempt, stream)
        try:
            self._client.xadd(
                name,
                {"t": data.decode(errors="replace")},
                id=f"{offset + len(data)}-0",
                maxlen=limits.LIVE_LOG_ENTRIES,
            )
            self._client.expire(name, int(10 * limits.LIVE_LOG_WATCH_S))
        except redis.ResponseError:
            # Already there: an earlier relay sent it.
            pass
        except redis.RedisError as error:
            log.info("event=livelog_waits attempt=%s error=%s", attempt, error)
            return
        self._offsets[key] = offset + len(data)
