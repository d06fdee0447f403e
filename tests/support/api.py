"""The API over a scheduler's parts, served as it is in a deployment."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import uvicorn

from scheduler.api.app import make_app
from scheduler.api.edge.server import server_config
from tests.support.waits import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.wiring import Runtime


@contextmanager
def serving(rt: Runtime) -> Iterator[str]:
    """Serve it on a free port; return the URL."""
    server = uvicorn.Server(server_config(make_app(rt), rt.settings, port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, what="the API")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def user_of(url: str, key: str = "") -> httpx.Client:
    """A client of it, with this key."""
    headers = {"X-API-Key": key} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)
