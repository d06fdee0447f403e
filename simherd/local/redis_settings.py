"""The settings of the Redis that `simherd up` starts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Longest single value that Redis takes from a client, and all of a command, bytes: what reads the
#: streams of machines is never sent more at once.
REDIS_BULK_BYTES = 4 * 1024**2
REDIS_QUERY_BYTES = 16 * 1024**2
#: What Redis keeps for a client that does not read its replies, bytes, before it ends the
#: connection; a quarter of that after ten seconds. The scheduler's largest reply is some 10 MiB.
REDIS_OUTPUT_BYTES = 64 * 1024**2

#: The least and the most memory that Redis gets, bytes: a waiting task takes some 6 KiB, so that
#: these hold 40,000 and 600,000.
_REDIS_LEAST_BYTES, _REDIS_MOST_BYTES = 256 * 1024**2, 4 * 1024**3


def redis_settings(folder: Path, port: int, password: str) -> bytes:
    """Return the settings, for standard input: every user of the machine can read arguments.

    Args:
        folder: where Redis keeps its data.
        port: the port on 127.0.0.1.
        password: of the user `default`, the scheduler's.
    """
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{folder}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        f"maxmemory {_redis_bytes()}",
        "maxmemory-policy noeviction",
        f"proto-max-bulk-len {REDIS_BULK_BYTES}",
        f"client-query-buffer-limit {REDIS_QUERY_BYTES}",
        f"client-output-buffer-limit normal {REDIS_OUTPUT_BYTES} {REDIS_OUTPUT_BYTES // 4} 10",
    ]
    return "\n".join(lines).encode() + b"\n"


def _redis_bytes() -> int:
    """What Redis may take of this machine's memory: a quarter, within bounds."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(_REDIS_MOST_BYTES, max(_REDIS_LEAST_BYTES, total // 4))
