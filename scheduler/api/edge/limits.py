"""Bounds that more than one module of this room relies on."""

from __future__ import annotations

#: Largest body of a request that shows no key: a machine's join token and digest, bytes.
MAX_OPEN_BODY_BYTES = 4096
#: Largest head of a request, bytes: the published client asks in one request line for signed URLs
#: for all files of a folder, about 100 bytes for each of 10,000. Those that are not complete may
#: have so many bytes together.
MAX_HEAD_BYTES = 1024**2
#: Header fields of a request: clients and proxies send some 20. A field of three bytes takes some
#: hundred times as much memory once it is parsed.
MAX_HEAD_FIELDS = 128
#: Connections of an API process: all, and those that wait for a request.
MAX_CONNECTIONS = 4096
