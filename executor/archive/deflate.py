"""Deflate on several cores: blocks that are compressed apart, and are one stream together."""

from __future__ import annotations

import zlib
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

#: Blocks that may wait for being written, for each worker: bounds the memory.
_AHEAD = 2


class ParallelDeflate:
    """A compressor as the zip library wants one. zlib lets other threads run meanwhile.

    Each block ends on a byte (a full flush), so the blocks may be put one after another; an empty
    last block ends the stream (RFC 1951, section 3.2).
    """

    def __init__(self, pool: Executor, workers: int, level: int) -> None:
        self._pool = pool
        self._most = _AHEAD * workers
        self._level = level
        self._blocks: deque[Future[bytes]] = deque()

    def compress(self, data: bytes) -> bytes:
        """Take a block; answers what is ready, in order."""
        self._blocks.append(self._pool.submit(_block, data, self._level))
        ready = []
        while len(self._blocks) > self._most or (self._blocks and self._blocks[0].done()):
            ready.append(self._blocks.popleft().result())
        return b"".join(ready)

    def flush(self) -> bytes:
        """The rest, and the end of the stream."""
        rest = [block.result() for block in self._blocks]
        self._blocks.clear()
        return b"".join((*rest, zlib.compressobj(wbits=-zlib.MAX_WBITS).flush()))


def _block(data: bytes, level: int) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)
