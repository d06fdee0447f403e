"""Some files of a stored zip, fetched without the rest of it and checked."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import secrets
import stat
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from simherd.contract.archive.paths import ArchiveRejected, checked_parts, link_stays_inside
from simherd.contract.archive.times import read_time
from simherd.errors import InvalidInput, TransferError
from simherd.transfers import signed_url
from simherd.transfers.ranged_download import WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from simherd.transfers.signed_url import Progress

#: Fixed part of the header before each member's data (APPNOTE 4.3.7).
_HEADER = 30
_RAW_DEFLATE = -15
#: Members that lie so close together, bytes, are fetched with what is between them.
_GAP = 64 * 1024
#: Bytes that one request gets of small members.
_SPAN = 16 * 1024**2
_WILD = frozenset("*?[")
_DEPTH = 128


def choose(names: Iterable[str], wanted: list[str]) -> list[str]:
    """The names that are wanted, each a name, a folder (with all in it) or a pattern.

    In a pattern `*` and `?` match within one folder or across folders, as in `fnmatch`.

    Raises:
        InvalidInput: one of them fits no name.
    """
    known = list(names)
    chosen: dict[str, None] = {}
    missing = []
    for text in wanted:
        if text in known:
            fits = [text]
        elif _WILD & set(text):
            fits = [n for n in known if fnmatch.fnmatchcase(n, text)]
        else:
            fits = [n for n in known if n.startswith(text.rstrip("/") + "/")]
        if not fits:
            missing.append(text)
        chosen.update(dict.fromkeys(fits))
    if missing:
        raise InvalidInput(
            f"filenames: {', '.join(map(repr, missing))} not in the archive. "
            "Task.get_output_info() lists what is."
        )
    return list(chosen)


class MemberDownload:
    """Files of the zip at `url` below its folder `root`, to be written below `target`."""

    def __init__(self, url: str, root: str, target: Path, progress: Progress) -> None:
        self._url, self._root, self._target, self._progress = url, root, target, progress
        self._lock = threading.Lock()
        self._have = self._size = self._archive_size = 0

    def run(self, wanted: list[str]) -> None:
        """Fetch what is wanted: all of it, or an error says what is missing.

        What is there already, whole and with the right checksum, is not fetched again.

        Raises:
            InvalidInput: something is not in the archive.
            TransferError: something could not be fetched whole, or is broken.
        """
        infos = self._directory()
        names = choose(infos, wanted)
        for name in names:
            _check_parents(_checked(name), infos)
        todo = [(n, infos[n]) for n in names if not self._is_there(n, infos[n])]
        self._size = sum(info.compress_size for _, info in todo)
        todo.sort(key=lambda row: row[1].header_offset)
        with ThreadPoolExecutor(WORKERS, "download") as pool:
            started = [pool.submit(self._fetch, span) for span in _spans(todo)]
            try:
                for one in started:
                    one.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        prefix = f"{self._root}/" if self._root else ""
        self._archive_size = signed_url.remote_info(self._url).size
        with signed_url.remote_file(self._url) as remote:
            try:
                with zipfile.ZipFile(remote) as opened:
                    listed = [i for i in opened.infolist() if not i.is_dir()]
            except zipfile.BadZipFile as error:
                raise TransferError(f"The archive of the task is broken: {error}.") from error
        return {i.filename.removeprefix(prefix): i for i in listed if i.filename.startswith(prefix)}

    def _is_there(self, name: str, info: zipfile.ZipInfo) -> bool:
        path = self._target / name
        with contextlib.suppress(OSError):
            if path.is_symlink() or path.stat().st_size != info.file_size:
                return False
            crc = 0
            with path.open("rb") as file:
                while data := file.read(signed_url.CHUNK):
                    crc = zlib.crc32(data, crc)
            return crc == info.CRC
        return False

    def _fetch(self, span: list[tuple[str, zipfile.ZipInfo]]) -> None:
        first = span[0][1].header_offset
        last = span[-1][1]
        # A local header may have other extra fields than the directory's; 64 KiB each at most.
        most = last.header_offset + _HEADER + len(last.filename.encode()) + 2**16
        end = min(most + last.compress_size, self._archive_size)
        stream = _Stream(self._url, first, end - first)
        try:
            for name, info in span:
                stream.skip_to(info.header_offset)
                header = stream.take(_HEADER)
                stream.take(sum(int.from_bytes(header[i : i + 2], "little") for i in (26, 28)))
                self._write(name, info, stream)
        finally:
            stream.close()

    def _write(self, name: str, info: zipfile.ZipInfo, stream: _Stream) -> None:
        path = self._place(name)
        if stat.S_ISLNK(info.external_attr >> 16):
            target = b"".join(self._unpacked(info, stream)).decode()
            if not link_stays_inside(_checked(name)[:-1], target):
                raise TransferError(f"{name} is a symlink that leads elsewhere.")
            path.unlink(missing_ok=True)
            path.symlink_to(target)
            return
        part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
        try:
            with part.open("wb") as writer:
                for data in self._unpacked(info, stream):
                    writer.write(data)
            part.chmod((info.external_attr >> 16) & 0o777 or 0o644)
            mtime = read_time(info.extra)
            if mtime is not None:
                os.utime(part, (mtime, mtime))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _place(self, name: str) -> Path:
        """Where a file goes; its folders are there then, and none of them leads elsewhere."""
        path = self._target
        for part in _checked(name)[:-1]:
            path = path / part
            if path.is_symlink():
                raise TransferError(f"{path} is a symlink; what lies below it is not written.")
        path.mkdir(parents=True, exist_ok=True)
        return path / _checked(name)[-1]

    def _unpacked(self, info: zipfile.ZipInfo, stream: _Stream) -> Iterator[bytes]:
        """A member's bytes; raises at their end where they are not what was stored."""
        inflate = zlib.decompressobj(_RAW_DEFLATE) if info.compress_type else None
        left, size, crc = info.compress_size, 0, 0
        while left:
            raw = stream.some(left)
            left -= len(raw)
            self._count(len(raw))
            try:
                for data in _inflated(inflate, raw):
                    size, crc = size + len(data), zlib.crc32(data, crc)
                    if size > info.file_size:
                        raise TransferError(f"{info.filename} is broken: larger than it says.")
                    yield data
            except zlib.error as error:
                raise TransferError(f"{info.filename} is broken: {error}") from error
        if size != info.file_size or crc != info.CRC:
            raise TransferError(f"{info.filename} is broken: its checksum does not fit.")

    def _count(self, more: int) -> None:
        with self._lock:
            self._have += more
            self._progress(self._have, self._size)


def _inflated(inflate: zlib._Decompress | None, raw: bytes) -> Iterator[bytes]:
    """What compressed bytes stand for, in pieces: they may unpack to a thousand times as much."""
    if inflate is None:
        yield raw
        return
    while data := inflate.decompress(raw, signed_url.CHUNK):
        yield data
        raw = inflate.unconsumed_tail


def _check_parents(parts: tuple[str, ...], infos: Mapping[str, zipfile.ZipInfo]) -> None:
    """Refuse a file that is stored below a link or another file: it would land elsewhere."""
    for end in range(1, len(parts)):
        if "/".join(parts[:end]) in infos:
            raise TransferError(f"{'/'.join(parts)} is stored below what is not a folder.")


class _Stream:
    """A range of a URL, read once from its beginning to its end."""

    def __init__(self, url: str, first: int, length: int) -> None:
        self._at, self._held = first, b""
        self._pieces = signed_url.pieces(url, first, length)

    def some(self, most: int) -> bytes:
        """At least one byte, at most so many. Raises TransferError at the end."""
        while not self._held:
            found = next(self._pieces, None)
            if found is None:
                raise TransferError("The archive of the task is cut short.")
            self._held = found
        data, self._held = self._held[:most], self._held[most:]
        self._at += len(data)
        return data

    def take(self, length: int) -> bytes:
        """So many bytes."""
        data = b""
        while len(data) < length:
            data += self.some(length - len(data))
        return data

    def skip_to(self, offset: int) -> None:
        """Read on until this place."""
        while self._at < offset:
            self.some(offset - self._at)

    def close(self) -> None:
        """End the request."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def _spans(
    todo: list[tuple[str, zipfile.ZipInfo]],
) -> list[list[tuple[str, zipfile.ZipInfo]]]:
    """Members that one request gets: small ones that are close together."""
    spans: list[list[tuple[str, zipfile.ZipInfo]]] = []
    end = size = 0
    for row in todo:
        info = row[1]
        near = spans and info.header_offset - end <= _GAP and size + info.compress_size <= _SPAN
        if not near:
            spans.append([])
            size = 0
        spans[-1].append(row)
        end = info.header_offset + _HEADER + len(info.filename) + info.compress_size
        size += info.compress_size
    return spans


def _checked(name: str) -> tuple[str, ...]:
    try:
        return checked_parts(name, _DEPTH)
    except ArchiveRejected as error:
        raise TransferError(f"{name} could not be unpacked: {error}") from error
