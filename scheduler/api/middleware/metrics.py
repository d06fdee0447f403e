"""Counting requests by route: unlike paths, routes hold no names of tasks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scheduler.api.asgi import HttpMiddleware
from scheduler.metrics import table
from scheduler.metrics.instruments import inc, observe

if TYPE_CHECKING:
    from scheduler.api.asgi import Message, Receive, Scope, Send

#: The route label of requests that no route takes.
_NONE = "none"
#: Methods that routes have; all others share one label.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


class MetricsMiddleware(HttpMiddleware):
    """Counts a request when its response begins: a stream may take hours to end."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle and count a request."""
        began = time.monotonic()

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                _count(scope, message["status"], time.monotonic() - began)
            await send(message)

        try:
            await self.app(scope, receive, respond)
        except Exception:
            # The response to it is sent from outside all middleware.
            _count(scope, 500, time.monotonic() - began)
            raise


def _count(scope: Scope, status: int, seconds: float) -> None:
    route: Any = scope.get("route")
    path = getattr(route, "path", _NONE)
    method = scope["method"] if scope["method"] in _METHODS else _NONE
    inc(table.HTTP_REQUESTS, method, path, str(status))
    observe(table.HTTP_SECONDS, seconds, method, path)
