"""Requests to addresses that users name: they reach the public internet, and nothing inside.

A name is resolved once, by the connection itself, and what it resolves to is checked before
anything is sent: a name that answers differently the second time (DNS rebinding), a redirect, an
address written as one number or inside IPv6 all end in the same check.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import time
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

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
#: Seconds to connect, and between two pieces of an answer.
_TIMEOUT = httpx.Timeout(5)
#: Redirects that are followed where the caller asks for it.
MOST_REDIRECTS = 5


class NotAllowed(Exception):
    """The address leads to where users' requests may not go; the message is for people."""


def networks(text: str) -> tuple[Network, ...]:
    """Networks as a setting has them: CIDR, with commas between. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def checked_url(url: str) -> str:
    """`url`, as far as it can be judged without asking anybody.

    Raises:
        NotAllowed: it is not http or https, has no host, or carries a password.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise NotAllowed(f"{url[:200]!r} is no URL: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise NotAllowed(f"{url[:200]!r} is no http:// or https:// URL")
    if parsed.userinfo:
        raise NotAllowed("the URL carries a user name or password")
    return url


def check_host(url: str, allowed: Iterable[Network] = ()) -> None:
    """Refuse a URL whose host leads elsewhere now; one that leads nowhere may do so later.

    Raises:
        NotAllowed: it leads to what is neither public nor in an `allowed` network.
    """
    try:
        _resolve(httpx.URL(url).host, None, tuple(allowed))
    except httpcore.ConnectError:
        return


def open_client(allowed: Iterable[Network] = (), *, whole_s: float | None = None) -> httpx.Client:
    """A client that connects to public addresses, and to `allowed` networks, alone.

    `whole_s`: seconds from now after which all its connections are cut, those that redirects
    lead to included, however much still comes. Its requests raise NotAllowed where an address is
    neither.
    """
    transport = httpx.HTTPTransport(verify=_tls(), trust_env=False)
    until = None if whole_s is None else time.monotonic() + whole_s
    # The library has no public way to say how a connection is made.
    transport._pool = httpcore.ConnectionPool(
        ssl_context=_tls(),
        max_connections=10,
        network_backend=_Guarded(tuple(allowed), until),
    )
    return httpx.Client(
        transport=transport, timeout=_TIMEOUT, trust_env=False, max_redirects=MOST_REDIRECTS
    )


@functools.cache
def _tls() -> ssl.SSLContext:
    """What encrypted connections trust; read once, for it takes a while."""
    return httpx.create_ssl_context(trust_env=False)


class _Guarded(httpcore.NetworkBackend):
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
            timeout = _left(self._until, timeout)
        stream = self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
        return stream if self._until is None else _Timed(stream, self._until)


class _Timed(httpcore.NetworkStream):
    """A connection that ends at a moment: one that sends a byte now and then is over, too."""

    def __init__(self, inner: httpcore.NetworkStream, until: float) -> None:
        self._inner = inner
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See `httpcore.NetworkStream`."""
        return self._inner.read(max_bytes, _left(self._until, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See `httpcore.NetworkStream`."""
        self._inner.write(buffer, _left(self._until, timeout))

    def close(self) -> None:
        """See `httpcore.NetworkStream`."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """See `httpcore.NetworkStream`."""
        left = _left(self._until, timeout)
        inner = self._inner.start_tls(ssl_context, server_hostname, left)
        return _Timed(inner, self._until)

    def get_extra_info(self, info: str) -> Any:
        """See `httpcore.NetworkStream`."""
        return self._inner.get_extra_info(info)


def _left(until: float, timeout: float | None) -> float:
    """Seconds that a step may take. Raises httpcore.ReadTimeout where there are none left."""
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time for the whole answer is up")
    return left if timeout is None else min(left, timeout)


def _resolve(host: str, port: int | None, allowed: tuple[Network, ...]) -> str:
    """The first of a host's addresses, where requests may go to each of them.

    Raises:
        NotAllowed: they may not.
        httpcore.ConnectError: it has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host}: {error}") from error
    # All of them: a name with one public and one inner address is no honest name.
    addresses = [str(row[4][0]) for row in found]
    for address in addresses:
        if not _may(ipaddress.ip_address(address.partition("%")[0]), allowed):
            raise NotAllowed(f"{host} leads to {address}, which is not on the public internet")
    return addresses[0]


def _may(address: Address, allowed: tuple[Network, ...]) -> bool:
    inner = getattr(address, "ipv4_mapped", None)
    address = inner or address
    if any(address in network for network in allowed):
        return True
    if isinstance(address, ipaddress.IPv6Address) and (
        address not in _UNICAST or int(address) >> 32 & 0xFFFFFFFF in _ISATAP
    ):
        return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast
