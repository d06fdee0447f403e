"""The HTTP application."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI

from scheduler.api import problems
from scheduler.api.asgi import HttpMiddleware
from scheduler.api.edge.access import Rules
from scheduler.api.edge.guard import Guard
from scheduler.api.edge.headers import SecurityHeaders
from scheduler.api.edge.rates import Lane
from scheduler.api.middleware.encoded_paths import EncodedPathsMiddleware
from scheduler.api.middleware.metrics import MetricsMiddleware
from scheduler.api.middleware.request_log import Caller, RequestLogMiddleware, note_task
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
    projects,
    sharing,
    storage,
    tasks,
    users,
    v1,
    version,
)
from scheduler.api.sse import Streams
from scheduler.api.strict import bounded_document
from scheduler.bridge.connections import BridgeConnections
from scheduler.health import dependencies
from simherd.runtime.health import Pulse
from simherd.runtime.logs import LogFormat, about

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scheduler.api.asgi import Application, Message, Receive, Scope, Send
    from scheduler.wiring import Runtime

#: Uploads through an API process into a storage that takes parts, such as S3; one user has half of
#: them at the most. Each holds a part in memory, twice while it is stored (`uploads.part_size`).
UPLOADS_IN_PARTS = 32
#: Threads of an API process for what an event loop must not wait for: SQL, storage.
API_THREADS = 64

#: Seconds between two signs of life of the event loop.
_BEAT_S = 5.0


#: In the order in which they are matched with a request.
_ROUTES = (
    health,
    users,
    tasks,
    live_files,
    batches,
    bridge,
    v1.tasks,
    v1.costs,
    v1.storage,
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
)


class ApiApp(FastAPI):
    """The application; every response has its security headers, those to failures too."""

    def build_middleware_stack(self) -> Application:
        """See `FastAPI`."""
        return SecurityHeaders(
            super().build_middleware_stack(), self.state.runtime.settings.public_url
        )

    def openapi(self) -> dict[str, Any]:
        """See `FastAPI`."""
        if self.openapi_schema is None:
            self.openapi_schema = bounded_document(super().openapi())
        return self.openapi_schema


def make_app(rt: Runtime) -> FastAPI:
    """Return the application of a runtime."""
    app = ApiApp(
        title="Simherd",
        version=version.SERVER_VERSION,
        redirect_slashes=False,
        lifespan=_lifespan,
        dependencies=[Depends(note_task)],
    )
    app.state.runtime = rt
    app.state.connections = BridgeConnections(rt)
    app.state.streams = Streams()
    app.state.uploads = Lane(UPLOADS_IN_PARTS, "There are too many uploads at one time. Try again.")
    app.state.dependencies = dependencies(rt)
    app.state.pulse = Pulse("The API's event loop")
    problems.install(app)
    app.add_middleware(Guard, rt=rt, rules=rules())
    if rt.settings.log_format is LogFormat.JSON:
        # In the text format for people, our own lines already say what a request did.
        app.add_middleware(RequestLogMiddleware)
    if rt.traces is not None:
        app.add_middleware(Caller)
    app.add_middleware(RequestId)
    app.add_middleware(EncodedPathsMiddleware)
    app.add_middleware(MetricsMiddleware)
    for module in _ROUTES:
        app.include_router(module.router)
    return app


def rules() -> Rules:
    """Return the credential and body size that each route requires."""
    return Rules(module.router for module in _ROUTES)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # The default, one thread per core, would be too few: the threads wait for storage and SQL.
    threads = ThreadPoolExecutor(API_THREADS, "aside")
    asyncio.get_running_loop().set_default_executor(threads)
    beating = asyncio.create_task(_beat(app.state.pulse))
    yield
    beating.cancel()
    await app.state.connections.close()
    await asyncio.to_thread(app.state.runtime.close)


async def _beat(pulse: Pulse) -> None:
    while True:
        pulse.beat()
        await asyncio.sleep(_BEAT_S)


class RequestId(HttpMiddleware):
    """Gives every request an id, which its response and the log carry."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request under a new id."""
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        with about(request_id=request_id):
            await self.app(scope, receive, respond)
