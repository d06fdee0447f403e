"""The HTTP application."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI

from scheduler.api import problems
from scheduler.api.measured import Measured
from scheduler.api.names import EncodedNames
from scheduler.api.request_log import Caller, RequestLog, note_task
from scheduler.api.routes import (
    admin,
    admin_groups,
    admin_users,
    attempts,
    batches,
    bridge,
    catalogue,
    compute,
    events,
    files,
    health,
    live_files,
    machines,
    own_costs,
    own_storage,
    own_tasks,
    projects,
    sharing,
    storage,
    tasks,
    users,
    version,
)
from scheduler.api.routes.attempts import CHECKPOINT_VERB
from scheduler.api.routes.batches import BATCH
from scheduler.api.routes.storage import EXPORT_VERB
from scheduler.api.sse import Streams
from scheduler.api.strict import bounded_document
from scheduler.bridge.connections import Connections
from scheduler.health import dependencies
from scheduler.objects.file_urls import ROUTE as FILES_ROUTE
from simherd.contract import limits
from simherd.contract.health import Pulse
from simherd.contract.logs import LogFormat, about

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from scheduler.wiring import Parts

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]


#: Seconds between two signs that the event loop goes on.
_BEAT_S = 5.0


class _Api(FastAPI):
    """The application, whose OpenAPI document says what holds for every request."""

    def openapi(self) -> dict[str, Any]:
        """See `FastAPI`."""
        if self.openapi_schema is None:
            self.openapi_schema = bounded_document(super().openapi())
        return self.openapi_schema


def make_app(parts: Parts) -> FastAPI:
    """The application over `parts`."""
    app = _Api(
        title="Simherd",
        version=version.SERVER_VERSION,
        redirect_slashes=False,
        lifespan=_lifespan,
        dependencies=[Depends(note_task)],
    )
    app.state.parts = parts
    app.state.connections = Connections(parts)
    app.state.streams = Streams()
    app.state.dependencies = dependencies(parts)
    app.state.pulse = Pulse("The API's event loop")
    problems.install(app)
    app.add_middleware(BodyLimit)
    if parts.settings.log_format is LogFormat.JSON:
        # For people, a line for each request says nothing that our own lines do not.
        app.add_middleware(RequestLog)
    if parts.traces is not None:
        app.add_middleware(Caller)
    app.add_middleware(RequestId)
    app.add_middleware(EncodedNames)
    app.add_middleware(Measured)
    for module in (
        health,
        users,
        tasks,
        live_files,
        batches,
        bridge,
        own_tasks,
        own_costs,
        own_storage,
        attempts,
        machines,
        admin,
        admin_users,
        admin_groups,
        compute,
        sharing,
        events,
        catalogue,
        storage,
        files,
        projects,
        version,
    ):
        app.include_router(module.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # As many as there are cores would be too few: they wait for storage and SQL, one for each
    # of those who look.
    threads = ThreadPoolExecutor(limits.API_THREADS, "aside")
    asyncio.get_running_loop().set_default_executor(threads)
    beating = asyncio.create_task(_beat(app.state.pulse))
    yield
    beating.cancel()
    await app.state.connections.close()
    await asyncio.to_thread(app.state.parts.close)


async def _beat(pulse: Pulse) -> None:
    while True:
        pulse.beat()
        await asyncio.sleep(_BEAT_S)


class RequestId:
    """Gives every request an id, which the answer and the log carry."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        with about(request_id=request_id):
            await self._app(scope, receive, answer)


#: The largest bodies, by how their requests' paths end: lists that are as long as there are files
#: of a checkpoint, or parts of an export.
_LONG_BODIES = {
    CHECKPOINT_VERB: limits.MAX_CHECKPOINT_BODY_BYTES,
    EXPORT_VERB: limits.MAX_EXPORT_BODY_BYTES,
    BATCH: limits.MAX_BATCH_BODY_BYTES,
}


class BodyLimit:
    """Refuses a JSON body that is too large, by its real length; files are not JSON."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless its body goes over the limit."""
        if scope["type"] != "http" or scope["path"].startswith(FILES_ROUTE):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        most = next(
            (size for verb, size in _LONG_BODIES.items() if path.endswith(verb)),
            limits.MAX_BODY_BYTES,
        )
        messages, size = [], 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > most:
                await _too_large(scope, receive, send, most)
                return
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break

        async def replay() -> MutableMapping[str, Any]:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replay, send)


async def _too_large(scope: Scope, receive: Receive, send: Send, most: int) -> None:
    from fastapi import Request

    detail = (
        f"body: larger than {most} bytes. "
        "Put data into the input files; the request holds parameters only."
    )
    response = problems.problem(Request(scope), 413, detail, {"Connection": "close"})
    await response(scope, receive, send)
