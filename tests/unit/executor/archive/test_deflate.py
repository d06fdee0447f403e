"""Entries of an archive, compressed in blocks, as the standard library and `unzip` read them."""

from __future__ import annotations

import io
import random
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from executor.archive.deflate import ZipWriter

MIB = 1024**2


class Pipe(io.RawIOBase):
    """A medium that cannot seek."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.data += data
        return len(data)


def archive(*members: tuple[zipfile.ZipInfo, list[bytes]], workers: int = 2) -> zipfile.ZipFile:
    pipe = Pipe()
    with ThreadPoolExecutor(workers) as pool, ZipWriter(pipe, pool, workers) as writer:  # type: ignore[arg-type]
        for member, chunks in members:
            writer.add(member, chunks)
    return zipfile.ZipFile(io.BytesIO(bytes(pipe.data)))


def member(name: str, most: int, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type, info.file_size = method, most
    return info


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("sizes", [[], [0], [1], [MIB], [MIB, MIB, 7], [MIB] * 9])
@pytest.mark.parametrize("workers", [1, 3])
def test_what_was_written_is_read(method: int, sizes: list[int], workers: int) -> None:
    chance = random.Random(1)
    chunks = [chance.randbytes(size // 2) + b"a" * (size - size // 2) for size in sizes]
    data = b"".join(chunks)
    info = member("f", len(data), method)
    with archive((info, chunks), workers=workers) as zipped:
        assert zipped.testzip() is None
        assert zipped.read("f") == data
    assert (info.file_size, info.CRC) == (len(data), zlib.crc32(data))


def test_sizes_are_those_of_the_bytes_received() -> None:
    info = member("f", 5 * MIB)
    with archive((info, [b"short"]), (member("g", 1), [b"x"])) as zipped:
        assert zipped.read("f") == b"short"
        assert zipped.read("g") == b"x"
        assert zipped.getinfo("f").file_size == 5


def test_an_entry_that_may_be_large_has_fields_of_64_bits() -> None:
    with archive((member("f", 3 * 1024**3), [b"small"]), (member("g", 1), [b"x"])) as zipped:
        assert zipped.testzip() is None
        assert zipped.read("f") == b"small"
        assert zipped.getinfo("f").extract_version >= 45


def test_names_beyond_ascii_are_utf_8() -> None:
    with archive((member("größe", 1), [b"x"])) as zipped:
        assert zipped.namelist() == ["größe"]


def test_repeated_data_compresses_well() -> None:
    with archive((member("f", 4 * MIB), [b"a" * MIB] * 4)) as zipped:
        assert zipped.getinfo("f").compress_size < MIB // 10
