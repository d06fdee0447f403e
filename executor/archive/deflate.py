"""Zip entries whose content is compressed on several cores: blocks that are one stream together."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import deque
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Executor, Future

#: Deflate level: outputs are large and mostly leave for a disk, so speed counts more than size.
LEVEL = 1
#: Blocks that may wait for being written, for each worker: bounds the memory.
_AHEAD = 2
#: Sizes that need 64-bit fields, and how much larger a file may become when it is deflated.
_ZIP64_BYTES, _LARGEST_GROWTH = 2**31 - 1, 1.05
#: Bit 3: CRC and sizes follow the content, since the archive is written in one pass.
_HAS_DESCRIPTOR = 0x08
_DESCRIPTOR = b"PK\x07\x08"
#: Largest file that is compressed without the pool, bytes.
_SMALL_BYTES = 1024**2


class ZipWriter(zipfile.ZipFile):
    """A zip archive written in one pass, with entries whose content is compressed in blocks. The
    library itself has no way to be given a compressor."""

    def __init__(self, out: IO[bytes], pool: Executor, workers: int) -> None:
        """`out` need not be able to seek; `workers`: how many blocks `pool` compresses at once."""
        super().__init__(out, "w")
        self._pool = pool
        self._most_blocks = _AHEAD * workers

    def add(self, member: zipfile.ZipInfo, chunks: Iterable[bytes]) -> None:
        """Write an entry and set its sizes and checksum. `member.file_size`: the most bytes that
        `chunks` may hold."""
        assert self.fp is not None
        zip64 = member.file_size * _LARGEST_GROWTH > _ZIP64_BYTES
        member.flag_bits |= _HAS_DESCRIPTOR
        member.header_offset = self.fp.tell()
        self.fp.write(member.FileHeader(zip64))
        for block in self._blocks(member, chunks):
            self.fp.write(block)
            member.compress_size += len(block)
        sums = (member.CRC, member.compress_size, member.file_size)
        self.fp.write(_DESCRIPTOR + struct.pack("<LQQ" if zip64 else "<LLL", *sums))
        self.start_dir = self.fp.tell()
        self.filelist.append(member)
        self.NameToInfo[member.filename] = member

    def _blocks(self, member: zipfile.ZipInfo, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Count the chunks, and return them as they are stored.

        Each block ends on a byte (a full flush), so the blocks may be put one after another; an
        empty last block ends the stream (RFC 1951, section 3.2).
        """
        stores = member.compress_type == zipfile.ZIP_STORED
        inline = _compressor() if member.file_size <= _SMALL_BYTES else None
        member.CRC = member.compress_size = member.file_size = 0
        pending: deque[Future[bytes]] = deque()
        for chunk in chunks:
            member.CRC = zlib.crc32(chunk, member.CRC)
            member.file_size += len(chunk)
            if stores:
                yield chunk
            elif inline is not None:
                yield inline.compress(chunk)
            else:
                pending.append(self._pool.submit(_deflate, chunk))
                while len(pending) > self._most_blocks or (pending and pending[0].done()):
                    yield pending.popleft().result()
        if not stores:
            yield from (block.result() for block in pending)
            yield (inline or _compressor()).flush()


def _compressor() -> Any:
    return zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)


def _deflate(data: bytes) -> bytes:
    compressor = _compressor()
    return bytes(compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH))
