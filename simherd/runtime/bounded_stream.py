"""A connection whose every step is bounded by the time that is left for a whole exchange.

httpx limits the time of each read: without this, a server that sends a byte now and then could
hold a request for hours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


class BoundedStream(httpcore.NetworkStream):
    """A stream of httpcore that asks before each step for how long the step may take."""

    def __init__(
        self, inner: httpcore.NetworkStream, limit: Callable[[float | None], float]
    ) -> None:
        """`limit`: a step's own time-out in seconds → the seconds that it may take. It raises an
        exception of httpcore when the time is over."""
        self._inner = inner
        self._limit = limit

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._limit(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._limit(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, self._limit(timeout))
        return BoundedStream(inner, self._limit)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
