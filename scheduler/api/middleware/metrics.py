"""Counting requests, by the route that answered: paths hold names of tasks, routes do not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scheduler.metrics import table
from scheduler.metrics.instruments import inc, observe

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from scheduler.api.app import Application, Receive, Scope, Send

#: Requests that no route takes.
_NONE = "none"
#: Methods that routes have; others are one.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})


class MetricsMiddleware:
    """Counts every request when its answer begins: one that is followed may take hours to end."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                _note(scope, message["status"], time.monotonic() - began)
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            # Who answers to it stands outside of everything.
            _note(scope, 500, time.monotonic() - began)
            raise


def _note(scope: Scope, status: int, seconds: float) -> None:
    route: Any = scope.get("route")
    path = getattr(route, "path", _NONE)
    method = scope["method"] if scope["method"] in _METHODS else _NONE
    inc(table.HTTP_REQUESTS, method, path, str(status))
    observe(table.HTTP_SECONDS, seconds, method, path)
