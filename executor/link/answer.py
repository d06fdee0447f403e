"""Sending a live answer no faster than its reader takes it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import redis

from simherd.contract import limits
from simherd.contract.live_frames import FIELD, Frame, FrameKind, Trouble

if TYPE_CHECKING:
    import threading

#: Seconds between two checks whether the reader has caught up.
_PAUSE_S = 0.05


class ReaderGone(Exception):
    """The reader of the answer has gone, or the agent ends."""


class LiveAnswer:
    """The stream of one answer. Its reader created it, and trims what was read."""

    def __init__(self, client: redis.Redis, key: str, closed: threading.Event) -> None:
        self._client = client
        self._key = key
        self._closed = closed

    def send(self, kind: FrameKind, **body: Any) -> None:
        """Send a frame at once. Raises ReaderGone, RedisError."""
        if not self._client.xadd(self._key, {FIELD: Frame(kind, body).encode()}, nomkstream=True):
            raise ReaderGone

    def fail(self) -> None:
        """Report that the file cannot be read, if the reader can still be reached."""
        detail = "The machine could not read it; its log says why."
        with contextlib.suppress(ReaderGone, redis.RedisError):
            self.send(FrameKind.ERROR, code=Trouble.UNREADABLE.value, detail=detail)

    def has_room(self, most: int = limits.LIVE_WINDOW) -> bool:
        """Return whether fewer than `most` frames wait for the reader. Raises RedisError."""
        waiting: Any = self._client.xlen(self._key)
        return int(waiting) < most

    def await_room(self, most: int = limits.LIVE_WINDOW) -> None:
        """Wait for room. Raises ReaderGone, RedisError."""
        while not self.has_room(most):
            if self._closed.wait(_PAUSE_S):
                raise ReaderGone

    def check(self) -> None:
        """Raise ReaderGone when the reader has gone."""
        if not self._client.exists(self._key):
            raise ReaderGone
