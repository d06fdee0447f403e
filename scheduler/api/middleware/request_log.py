"""A log line for each request, and the context of the lines written while it is handled."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from fastapi import Request

from scheduler.api.asgi import HttpMiddleware
from scheduler.traces.sender import caller
from simherd.runtime import logs

if TYPE_CHECKING:
    from scheduler.api.asgi import Message, Receive, Scope, Send

log = logging.getLogger(__name__)

#: Methods that change nothing.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


async def note_task(request: Request) -> None:
    """Add a request's task and attempt to the log lines that are written while it is handled."""
    params = request.path_params
    if "task_id" in params:
        logs.note(task=params["task_id"])
    if str(params.get("attempt", "")).isdigit():
        logs.note(attempt=int(params["attempt"]))


class RequestLogMiddleware(HttpMiddleware):
    """Logs each request's route and status, never its query or body.
    Successful reads are logged at DEBUG: clients poll their tasks once a second."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle and log a request."""
        began, status = time.monotonic(), 500

        async def respond(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, respond)
        finally:
            read = scope["method"] in _READING and status < 400
            log.log(
                logging.DEBUG if read else logging.INFO,
                "event=request method=%s route=%s status=%s ms=%s",
                scope["method"],
                # The pattern of the path: the path itself may hold the user's data.
                getattr(scope.get("route"), "path", None),
                status,
                round(1000 * (time.monotonic() - began), 1),
            )


class Caller(HttpMiddleware):
    """Keeps the trace that a client names for its request."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as part of that trace."""
        headers = dict(scope.get("headers", ()))
        caller.set(headers.get(b"traceparent", b"").decode("latin-1") or None)
        await self.app(scope, receive, send)
