"""Bounds that more than one module of this room relies on."""

from __future__ import annotations

#: The integers that every part can keep: SQL's BIGINT.
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1
#: Longest text of a name, of a file's path in a machine's folder, and of a URL, characters.
MAX_NAME_CHARACTERS = 128
#: Names of machine groups: labels of host names (RFC 1123), since machines are named after them.
MAX_FILE_PATH_CHARACTERS = 4096
#: US$, and what else an amount in a request may be at the most.
MAX_AMOUNT = 1e12
