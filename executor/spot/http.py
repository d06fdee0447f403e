"""Asking a metadata service over HTTP, within a time that holds whatever it does."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from executor.spot.notice import SourceError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

#: Seconds that a look may take with all its requests. Vendors and the AWS node termination
#: handler use 2 s for one request to a service that is on the same host.
LOOK_S = 2.0
#: Bytes of an answer's body; a real one has some hundred.
_MOST_BYTES = 64 * 1024


class MetadataClient:
    """Requests to one service, without proxies and redirects. `begin` goes before each look."""

    def __init__(self, base_url: str) -> None:
        """`base_url`: what the paths are put behind."""
        self._base = base_url
        self._time = _Time()
        # Loading the CA certificates takes 20 ms, which metadata services do without.
        tls = httpx.create_ssl_context(trust_env=False) if base_url.startswith("https:") else None
        self._client = httpx.Client(
            transport=_Transport(self._time, tls), follow_redirects=False, trust_env=False
        )

    def begin(self) -> None:
        """A look begins: its requests have LOOK_S seconds in all."""
        self._time.begin(LOOK_S)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """GET; see `ask`."""
        return self.ask("GET", path, headers)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The answer, whatever its status.

        Raises:
            SourceError: there is none in time, or one that is too long.
        """
        try:
            # Compressed, some bytes could become many.
            sent = {"Accept-Encoding": "identity", **(headers or {})}
            return self._client.request(method, self._base + path, headers=sent)
        except httpx.HTTPError as error:
            # Told without the URL, which may hold a password.
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise SourceError(f"{method} {path or 'of the notice'}: {what}") from error

    def close(self) -> None:
        """Close what is open."""
        self._client.close()


def refused(answer: httpx.Response) -> SourceError:
    """The error for an answer whose status says neither yes nor no."""
    return SourceError(f"{answer.request.url.path} answered {answer.status_code}")


class _Time:
    """What is left of the time of the look that runs."""

    def __init__(self) -> None:
        self._end = 0.0

    def begin(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the time for a look is over")
        return left


class _Transport(httpx.BaseTransport):
    """httpx on connections that know the end of the look.

    httpx's own time limits are for each read, so that a server which sends a byte each second
    could hold a look for hours.
    """

    def __init__(self, left: _Time, tls: ssl.SSLContext | None) -> None:
        # A connection for each request: one that is kept may be closed by the server just when
        # it is used again, and that would look like a fault.
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls, max_keepalive_connections=0, network_backend=_Backend(left)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = request.url
        url = httpcore.URL(
            scheme=asked.raw_scheme, host=asked.raw_host, port=asked.port, target=asked.raw_path
        )
        try:
            with self._pool.stream(request.method, url, headers=request.headers.raw) as answer:
                body = b""
                for piece in answer.iter_stream():
                    body += piece
                    if len(body) > _MOST_BYTES:
                        raise httpx.ReadError(f"the answer is longer than {_MOST_BYTES} bytes")
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            text = str(error) or type(error).__name__
            raise httpx.TransportError(text, request=request) from error
        headers = [h for h in answer.headers if h[0].lower() != b"content-encoding"]
        return httpx.Response(answer.status, headers=headers, content=body)

    def close(self) -> None:
        self._pool.close()


class _Backend(httpcore.NetworkBackend):
    def __init__(self, left: _Time) -> None:
        self._left = left
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        # A name may have many addresses, and would otherwise have the whole time for each.
        addresses = self._addresses(host, port)
        failed: Exception = httpcore.ConnectError(f"{host} has no address")
        for place, address in enumerate(addresses):
            share_s = self._left.left() / (len(addresses) - place)
            try:
                stream = self._plain.connect_tcp(
                    address, port, share_s, local_address, socket_options
                )
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failed = error
            else:
                return _Stream(stream, self._left)
        raise failed

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host}: {error}") from error
        return [str(where[0]) for *_, where in found]


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, left: _Time) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        wrapped = self._stream.start_tls(ssl_context, server_hostname, self._left.left())
        return _Stream(wrapped, self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
