"""The API's connections: bounded in number, in the time for a request's head, and by readers.

uvicorn has a limit for connections that are idle between two requests, and none for those that
never send one, send one slowly, or do not read the response.
"""

from __future__ import annotations

import asyncio
import json
import logging

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from scheduler.api.edge.heads import TOO_MANY_FIELDS, HeadConnection
from scheduler.api.edge.limits import MAX_CONNECTIONS, MAX_HEAD_FIELDS
from simherd.runtime.health import SECURITY_HEADERS

#: Largest head of a request, bytes: the published client asks in one request line for signed URLs
#: for all files of a folder, about 100 bytes for each of 10,000. Those that are not complete may
#: have so many bytes together.
INCOMPLETE_HEADS_BYTES = 16 * 1024**2
#: Connections of an API process: all, and those that wait for a request.
MAX_WAITING_CONNECTIONS = 512
#: Seconds in which a client must have read something of what waits for it.
SLOW_READER_S = 60.0

log = logging.getLogger(__name__)

#: Seconds between two looks at all connections.
_SWEEP_S = 1.0
_TOO_MANY = f"headers: the request has more than {MAX_HEAD_FIELDS} header fields. Send fewer."


class ClientConnection(H11Protocol):
    """One connection, which its server's `ClientConnections` watch."""

    #: Set by `ClientConnections.protocol`.
    watch: ClientConnections
    #: Since when it waits for a request, in seconds of the event loop.
    since = 0.0
    conn: HeadConnection
    #: Bytes of a head that is not complete.
    head_bytes = 0
    #: What its client had not read when it was last looked at, and when that last became less.
    unread_bytes = 0
    read_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.conn = HeadConnection()
        self.watch.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self.watch.discard(self)
        super().connection_lost(exc)

    @property
    def is_waiting(self) -> bool:
        """Whether no request is being handled."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_idle(self) -> bool:
        """Whether it waits after a response, and nothing of another request has come."""
        unfinished = self.conn.their_state is h11.SEND_BODY
        return self.cycle is not None and not self.head_bytes and not unfinished

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        # The rest of a body after its response is discarded, and is not part of a head.
        in_head = self.is_waiting and self.conn.their_state is not h11.SEND_BODY
        if in_head:
            self.watch.head_grows(self, len(data))
        super().data_received(data)
        if not self.is_waiting:
            self.watch.request_begins(self)
        self.watch.shed()

    def on_response_complete(self) -> None:
        """A response is written to the transport."""
        super().on_response_complete()
        if self.is_waiting:
            self.watch.waits(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, as the application refuses all else."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        status, title = 400, "Bad request"
        if self.conn.is_refused:
            status, title, msg = TOO_MANY_FIELDS, "Request header fields too large", _TOO_MANY
        problem = {"type": "about:blank", "title": title, "status": status, "detail": msg}
        body = json.dumps(problem).encode()
        headers = {
            **SECURITY_HEADERS,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        head = h11.Response(
            status_code=status, headers=list(headers.items()), reason=title.encode()
        )
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class ClientConnections:
    """All connections of one server."""

    def __init__(
        self,
        head_s: float,
        most: int = MAX_CONNECTIONS,
        most_waiting: int = MAX_WAITING_CONNECTIONS,
    ) -> None:
        """`head_s`: seconds in which each request's head must have come."""
        self._head_s, self._most, self._most_waiting = head_s, most, most_waiting
        self._open: set[ClientConnection] = set()
        #: Those that wait for a request, the one first that has waited for longest.
        self._waiting: dict[ClientConnection, None] = {}
        self._head_bytes = 0
        #: How many were closed since the last sweep, to make room.
        self._shed = 0
        self._sweep: asyncio.TimerHandle | None = None

    def protocol(self) -> type[ClientConnection]:
        """The class of these connections, as uvicorn's option `http` takes it."""
        return type("WatchedConnection", (ClientConnection,), {"watch": self})

    def add(self, connection: ClientConnection) -> None:
        """Add a new connection, which waits for a request."""
        self._open.add(connection)
        connection.read_at = _now()
        self.waits(connection)
        self.shed()
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._look)

    def discard(self, connection: ClientConnection) -> None:
        """Remove a connection that has ended."""
        self._open.discard(connection)
        self._leave_waiting(connection)

    def waits(self, connection: ClientConnection) -> None:
        """Note that a connection waits for a request from now on."""
        self._leave_waiting(connection)
        if connection in self._open:
            connection.since = _now()
            self._waiting[connection] = None

    def head_grows(self, connection: ClientConnection, size: int) -> None:
        """Count bytes of an incomplete head."""
        if connection.is_idle:
            self.waits(connection)
        if connection in self._waiting:
            connection.head_bytes += size
            self._head_bytes += size

    def request_begins(self, connection: ClientConnection) -> None:
        """Note that a head is complete."""
        self._leave_waiting(connection)

    def _leave_waiting(self, connection: ClientConnection) -> None:
        self._waiting.pop(connection, None)
        self._head_bytes -= connection.head_bytes
        connection.head_bytes = 0

    def shed(self) -> None:
        """Close connections over the limits, those first that have waited longest: a client that
        sends its request at once is served, however many others wait."""
        while self._waiting and (
            len(self._waiting) > self._most_waiting or len(self._open) > self._most
        ):
            self._end(next(iter(self._waiting)))
        while self._head_bytes > INCOMPLETE_HEADS_BYTES:
            self._end(max(self._waiting, key=lambda c: c.head_bytes))

    def _end(self, connection: ClientConnection) -> None:
        self.discard(connection)
        connection.transport.abort()
        self._shed += 1

    def _look(self) -> None:
        """Close connections that are too slow."""
        now = _now()
        if self._shed:
            log.warning("event=connections_shed closed=%s open=%s", self._shed, len(self._open))
            self._shed = 0
        for connection in list(self._waiting):
            if not connection.is_idle and now - connection.since > self._head_s:
                self._leave_waiting(connection)
                connection.transport.close()
        for connection in list(self._open):
            unread = connection.transport.get_write_buffer_size()
            if not unread or unread < connection.unread_bytes:
                connection.read_at = now
            connection.unread_bytes = unread
            if now - connection.read_at > SLOW_READER_S:
                self._end(connection)
        again = asyncio.get_running_loop().call_later
        self._sweep = again(_SWEEP_S, self._look) if self._open else None


def _now() -> float:
    return asyncio.get_running_loop().time()
