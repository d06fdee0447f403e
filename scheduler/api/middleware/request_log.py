"""A line for each request, and what the lines have that are written while it is answered."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from fastapi import Request

from scheduler.traces.sender import caller
from simherd.runtime import logs

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from scheduler.api.app import Application, Receive, Scope, Send

log = logging.getLogger(__name__)

#: Requests that change nothing.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


async def note_task(request: Request) -> None:
    """Have the lines of a request about a task name it."""
    told = request.path_params
    if "task_id" in told:
        logs.note(task=told["task_id"])
    if str(told.get("attempt", "")).isdigit():
        logs.note(attempt=int(told["attempt"]))


class RequestLogMiddleware:
    """Writes what was asked and how it was answered: the route, never the query or the body.

    What was only read, and could be, is written at DEBUG: clients look at their tasks once a
    second.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            read = scope["method"] in _READING and status < 400
            log.log(
                logging.DEBUG if read else logging.INFO,
                "event=request method=%s route=%s status=%s ms=%s",
                *(scope["method"], _route(scope), status),
                round(1000 * (time.monotonic() - began), 1),
            )


class Caller:
    """Keeps the trace that a client says its request belongs to."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        headers = dict(scope.get("headers", ()))
        caller.set(headers.get(b"traceparent", b"").decode("latin-1") or None)
        await self._app(scope, receive, send)


def _route(scope: Scope) -> str:
    """The pattern of the path: what a path holds is the user's own."""
    return str(getattr(scope.get("route"), "path", None))
