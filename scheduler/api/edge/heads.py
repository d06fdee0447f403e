"""Request heads, bounded in their number of lines before h11 parses them."""

from __future__ import annotations

from collections import deque
from typing import Any

import h11

from scheduler.api.edge.limits import MAX_HEAD_BYTES, MAX_HEAD_FIELDS

#: The status of a request whose head has too many fields (RFC 6585, section 5).
TOO_MANY_FIELDS = 431
#: Bytes that are given to h11 at once: it parses at most so many of a head with too many fields.
_PIECE_BYTES = 16 * 1024


class HeadConnection(h11.Connection):
    """A server's connection that refuses a head, or a chunked body's trailer, of too many lines.

    h11 does not say where a head ends. So it gets what has arrived in small pieces, and an
    incomplete head is refused once it has too many lines.
    """

    def __init__(self, most_fields: int = MAX_HEAD_FIELDS) -> None:
        """`most_fields`: header fields that a head may have, besides its request line."""
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self._most_fields = most_fields
        #: What h11 has not got yet.
        self._arrived: deque[bytes] = deque()
        #: Bytes that h11 may still get before the lines of the incomplete head are counted again.
        self._uncounted_bytes = 0
        #: Whether a head was refused.
        self.is_refused = False

    def receive_data(self, data: bytes) -> None:
        """Take what has arrived; empty: the client has ended the connection."""
        if not self.is_refused:
            self._arrived.extend(
                data[at : at + _PIECE_BYTES] for at in range(0, len(data) or 1, _PIECE_BYTES)
            )

    def next_event(self) -> Any:
        """See `h11.Connection`.
        Raises h11.RemoteProtocolError: also for a head with too many fields."""
        event: Any = super().next_event()
        while event is h11.NEED_DATA:
            if self._uncounted_bytes <= 0:
                self._count_lines()
            if not self._arrived:
                return event
            piece = self._arrived.popleft()
            self._uncounted_bytes -= max(1, len(piece))
            super().receive_data(piece)
            event = super().next_event()
        self._uncounted_bytes = 0
        if isinstance(event, h11.Request | h11.EndOfMessage):
            self._check(len(event.headers) <= self._most_fields)
        return event

    def _count_lines(self) -> None:
        """Refuse an incomplete head of too many lines."""
        incomplete, _ = self.trailing_data
        # The request line and the empty line that ends the head end in a newline, too.
        self._check(incomplete.count(b"\n") <= self._most_fields + 2)
        # `trailing_data` is a copy. Its sum over all counts grows only linearly with the head.
        self._uncounted_bytes = len(incomplete) // 64

    def _check(self, is_allowed: bool) -> None:
        if not is_allowed:
            self.is_refused = True
            self._arrived.clear()
            raise h11.RemoteProtocolError("too many header fields", TOO_MANY_FIELDS)
