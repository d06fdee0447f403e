"""Requests to a metadata service over HTTP, within a time that no server can stretch."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from executor.spot.notice import SourceError
from simherd.runtime.bounded_stream import BoundedStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping

#: Seconds that a poll may take with all its requests. Vendors and the AWS node termination
#: handler use 2 s for one request to a service that is on the same host.
LOOK_S = 2.0
#: Bytes of a response's body; a real one has some hundred.
_MOST_BYTES = 64 * 1024
_OK = 200


class MetadataSource:
    """The client of one service, without proxies and redirects, and the clock of its source.
    `begin` starts the time of a poll."""

    def __init__(
        self,
        # Of all clouds. A number, since a name server that hangs must not hold a poll.
        base_url: str = "http://169.254.169.254",
        clock: Callable[[], float] = time.time,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Make no request yet.

        Args:
            base_url: what the paths are appended to.
            clock: seconds since the epoch.
            transport: instead of the network.
        """
        self._base_url = base_url
        self._clock = clock
        self._ends_at = 0.0
        # Loading the CA certificates takes 20 ms, which metadata services do without.
        tls = httpx.create_ssl_context(trust_env=False) if base_url.startswith("https:") else None
        self._client = httpx.Client(
            transport=transport or _Transport(self._remaining_s, tls),
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        self._client.close()

    def begin(self) -> None:
        """Give the requests that follow LOOK_S seconds in all."""
        self._ends_at = time.monotonic() + LOOK_S

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Return the response, whatever its status.
        Raises SourceError: there is none in time, or one that is too long."""
        try:
            # Compressed, some bytes could become many.
            sent = {"Accept-Encoding": "identity", **(headers or {})}
            return self._client.request(method, self._base_url + path, headers=sent)
        except httpx.HTTPError as error:
            # Without the URL, which may hold a password.
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise SourceError(f"{method} {path or 'of the notice'}: {what}") from error

    def _remaining_s(self, _timeout: float | None = None) -> float:
        remaining = self._ends_at - time.monotonic()
        if remaining <= 0:
            raise httpcore.ReadTimeout("the time of this poll is over")
        return remaining


def check_ok(response: httpx.Response) -> None:
    """Raise SourceError unless the status is 200."""
    if response.status_code != _OK:
        raise SourceError(f"{response.request.url.path} responded with {response.status_code}")


class _Transport(httpx.BaseTransport):
    """httpx on connections that end with the poll."""

    def __init__(
        self, remaining_s: Callable[[float | None], float], tls: ssl.SSLContext | None
    ) -> None:
        # A connection for each request: one that is kept may be closed by the server just when
        # it is used again, and that would look like a fault.
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls, max_keepalive_connections=0, network_backend=_Backend(remaining_s)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        try:
            with self._pool.stream(request.method, url, headers=request.headers.raw) as response:
                body = b""
                for chunk in response.iter_stream():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise httpx.ReadError(f"the answer is longer than {_MOST_BYTES} bytes")
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            text = str(error) or type(error).__name__
            raise httpx.TransportError(text, request=request) from error
        headers = [h for h in response.headers if h[0].lower() != b"content-encoding"]
        return httpx.Response(response.status, headers=headers, content=body)

    def close(self) -> None:
        self._pool.close()


class _Backend(httpcore.NetworkBackend):
    def __init__(self, remaining_s: Callable[[float | None], float]) -> None:
        self._remaining_s = remaining_s
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host}: {error}") from error
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for index, row in enumerate(rows):
            # A name may have many addresses: no single one may use up the whole time.
            share_s = self._remaining_s(timeout) / (len(rows) - index)
            try:
                stream = self._inner.connect_tcp(
                    str(row[4][0]), port, share_s, local_address, socket_options
                )
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failure = error
            else:
                return BoundedStream(stream, self._remaining_s)
        raise failure
