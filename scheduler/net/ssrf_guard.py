"""Requests to URLs that users name: they reach the public internet, and nothing inside.

A name is resolved once, by the connection itself, and its addresses are checked before anything is
sent: a name that resolves differently the second time (DNS rebinding), a redirect, an address
written as one number or inside IPv6 all go through the same check.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from simherd.runtime.bounded_stream import BoundedStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The only addresses of IPv6 that are on the public internet (IANA's registry of the IPv6 address
#: space). Not among them, and reached through gateways: NAT64 (64:ff9b::/96 and 64:ff9b:1::/48,
#: RFC 6052 and 8215), IPv4-compatible (::a.b.c.d) and IPv4-translated (::ffff:0:a.b.c.d) addresses.
_UNICAST = ipaddress.ip_network("2000::/3")
#: Those among them, and of IPv4, that lead to an address inside another, or nowhere, and that
#: `is_global` of Python 3.11 lets pass: Teredo and other protocols (RFC 2928), 6to4 (RFC 3056) and
#: its relays (RFC 7526), examples (RFC 9637).
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text) for text in ("2001::/23", "2002::/16", "3fff::/20", "192.88.99.0/24")
)
#: How the second half of an address begins that carries an IPv4 address (ISATAP, RFC 5214).
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
#: Seconds to connect, and between two pieces of a response.
_TIMEOUT = httpx.Timeout(5)
#: Redirects that are followed, where the caller wants them followed.
MOST_REDIRECTS = 5


_ERRORS = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


class NotAllowed(Exception):
    """A user's request must not go to this address; the message is for people."""


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a setting: CIDR, separated by commas. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def checked_url(url: str) -> str:
    """Return `url`, checked without resolving its host.
    Raises NotAllowed: it is not http or https, has no host, or carries a password."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise NotAllowed(f"{url[:200]!r} is not a URL: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise NotAllowed(f"{url[:200]!r} is not an http:// or https:// URL")
    if parsed.userinfo:
        raise NotAllowed("the URL carries a user name or password")
    return url


def check_host(url: str, allowed: Iterable[Network] = ()) -> None:
    """Refuse a URL whose host has a forbidden address now; one without any may get one later.
    Raises NotAllowed: an address is neither public nor in an `allowed` network."""
    try:
        _resolve(httpx.URL(url).host, None, tuple(allowed))
    except httpcore.ConnectError:
        return


def open_client(allowed: Iterable[Network] = (), *, whole_s: float | None = None) -> httpx.Client:
    """Return a client that connects only to public addresses and `allowed` networks.

    Its requests raise NotAllowed for any other address. `whole_s`: seconds from now after which
    all its connections are cut, also those of redirects.
    """
    until = None if whole_s is None else time.monotonic() + whole_s
    return httpx.Client(
        transport=GuardedTransport(tuple(allowed), until),
        timeout=_TIMEOUT,
        trust_env=False,
        max_redirects=MOST_REDIRECTS,
    )


class GuardedTransport(httpx.BaseTransport):
    """Sends requests over connections whose addresses are checked."""

    def __init__(self, allowed: tuple[Network, ...], until: float | None) -> None:
        """`until`: when all connections are cut, by `time.monotonic`."""
        self._connections = httpcore.ConnectionPool(
            ssl_context=_tls(), max_connections=10, network_backend=_CheckedBackend(allowed, until)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        url = request.url
        sent = httpcore.Request(
            request.method,
            httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _httpx_errors():
            response = self._connections.handle_request(sent)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_ResponseBody(response),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()


class _ResponseBody(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise httpcore's errors as those that httpx has under the same names."""
    try:
        yield
    except _ERRORS as error:
        same = getattr(httpx, type(error).__name__, httpx.TransportError)
        raise same(str(error)) from error


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return the trusted certificates; read once, because that is slow."""
    return httpx.create_ssl_context(trust_env=False)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to the very address that was checked."""

    def __init__(self, allowed: tuple[Network, ...], until: float | None) -> None:
        self._allowed = allowed
        self._until = until
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """See `httpcore.NetworkBackend`."""
        address = _resolve(host, port, self._allowed)
        if self._until is not None:
            timeout = _remaining(self._until, timeout)
        stream = self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
        if self._until is None:
            return stream
        return BoundedStream(stream, functools.partial(_remaining, self._until))


def _remaining(until: float, timeout: float | None) -> float:
    """Return the seconds that a step may take. Raises httpcore.ReadTimeout: none remain."""
    remaining = until - time.monotonic()
    if remaining <= 0:
        raise httpcore.ReadTimeout("the time for the whole response is up")
    return remaining if timeout is None else min(remaining, timeout)


def _resolve(host: str, port: int | None, allowed: tuple[Network, ...]) -> str:
    """Return the first of a host's addresses.

    Raises:
        NotAllowed: requests must not go to one of them.
        httpcore.ConnectError: the host has none.
    """
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host}: {error}") from error
    # All of them are checked: an honest name does not have a public and an inner address.
    addresses = [str(row[4][0]) for row in rows]
    for address in addresses:
        if not _is_allowed(ipaddress.ip_address(address.partition("%")[0]), allowed):
            raise NotAllowed(f"{host} leads to {address}, which is not on the public internet")
    return addresses[0]


def _is_allowed(address: Address, allowed: tuple[Network, ...]) -> bool:
    address = getattr(address, "ipv4_mapped", None) or address
    if any(address in network for network in allowed):
        return True
    if isinstance(address, ipaddress.IPv6Address) and (
        address not in _UNICAST or int(address) >> 32 & 0xFFFFFFFF in _ISATAP
    ):
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast
