"""The HTTP server of an API process."""

from __future__ import annotations

import resource
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

from scheduler.api.edge.connections import ClientConnections
from scheduler.api.edge.limits import MAX_CONNECTIONS, MAX_HEAD_BYTES

if TYPE_CHECKING:
    from fastapi import FastAPI

    from scheduler.config import Settings

#: Files that an API process has open besides its connections, at the most: storage, SQL, Redis.
_OTHER_FILES = 2048


def server_config(app: FastAPI, settings: Settings, *, port: int | None = None) -> uvicorn.Config:
    """How the API is served; `port`: another than the settings'."""
    connections = ClientConnections(settings.request_head_s)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port if port is None else port,
        log_config=None,
        access_log=False,
        http=connections.protocol(),
        # There are no WebSockets, which would go round the limits of requests.
        ws="none",
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[n.strip() for n in settings.trusted_proxies.split(",") if n.strip()],
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=5,
    )


def serve(app: FastAPI, settings: Settings) -> None:
    """Serve the API until the process is to end.
    Raises SystemExit: the process cannot listen where the settings say."""
    _check_address(settings.host, settings.port)
    _allow_files(MAX_CONNECTIONS + _OTHER_FILES)
    server = uvicorn.Server(server_config(app, settings))
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(3)  # as uvicorn's own command does


def _check_address(host: str, port: int) -> None:
    """End the process where it cannot listen; uvicorn's own line would not name the settings."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        print(
            f"simherd-scheduler: SIMHERD_HOST, SIMHERD_PORT: cannot listen on {host!r} "
            f"port {port}: {reason}. Name an address of this host, and a port that is free",
            file=sys.stderr,
        )
        sys.exit(2)


def _allow_files(wanted: int) -> None:
    """Let this process have so many files open, as far as it may decide that itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
