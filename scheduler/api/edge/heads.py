"""Request heads, bounded in their number of lines before h11 parses one of them."""

from __future__ import annotations

import re

import h11

# The only place in h11 that knows where a head ends, however its bytes arrive: it never sees a
# body. The version is pinned in constraints.txt, and tests/unit/scheduler/test_edge_heads.py fails
# where h11 no longer reads heads through it.
from h11._receivebuffer import ReceiveBuffer

from simherd.contract import limits

#: The status of a request whose head has too many fields (RFC 6585, section 5).
TOO_MANY_FIELDS = 431
#: The end of a head's last line, and an empty line; some clients send bare newlines.
_HEAD_END = re.compile(rb"\n\r?\n")


class HeadBuffer(ReceiveBuffer):
    """What a connection has received: refuses a head, or a chunked body's trailer, of too many
    lines.

    Lines are counted as they arrive, each byte once, so that a head in many small chunks costs no
    more than one that arrives at once.
    """

    def __init__(self, most_fields: int = limits.MAX_HEAD_FIELDS) -> None:
        """`most_fields`: header fields that a head may have, besides its request line."""
        super().__init__()
        # The request line and the empty line that ends the head end in a newline, too.
        self._most_newlines = most_fields + 2
        #: Bytes of the incomplete head whose newlines are counted, and how many they are.
        self._counted_bytes = 0
        self._newlines = 0
        #: Whether a head was refused.
        self.is_refused = False

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """The lines of a head; None where it is not complete.

        Raises:
            h11.RemoteProtocolError: it has too many fields.
        """
        end = self._head_end()
        self._newlines += self._data.count(b"\n", self._counted_bytes, end)
        self._counted_bytes = end
        if self._newlines > self._most_newlines:
            self.is_refused = True
            self._data.clear()
            raise h11.RemoteProtocolError("too many header fields", TOO_MANY_FIELDS)
        return super().maybe_extract_lines()

    def _head_end(self) -> int:
        """Where the head ends, within what has arrived: a body may follow."""
        # An end may be split over two chunks: "\n\r\n" has two bytes before its last one.
        begin = max(0, self._counted_bytes - 2)
        found = _HEAD_END.search(self._data, begin)
        return len(self._data) if found is None else found.end()

    def _extract(self, count: int) -> bytearray:
        self._counted_bytes = self._newlines = 0
        return super()._extract(count)
