"""Input folders into zips, output zips into folders."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simherd.contract import objects
from simherd.contract.archive import ArchiveLimits, ArchiveRejected, unpack
from simherd.contract.archive.paths import checked_parts, link_stays_inside
from simherd.errors import InvalidInput, TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simherd.transfers.signed_url import Progress

_CHUNK = 1024 * 1024
#: Folders below one another; the executor takes no more (`ArchiveLimits`).
_DEPTH = 64
#: Outputs are the user's own: only what cannot be honest is refused. Deflate packs 1032:1 at best.
_OUTPUT_LIMITS = ArchiveLimits(bytes=1 << 62, entries=5_000_000, depth=128, ratio=1100)


@dataclass(frozen=True)
class InputEntry:
    """One thing in an input folder: where it is, and its name in the zip (folders end in `/`)."""

    path: Path
    name: str
    size: int
    #: The content, of one that is not a file on this machine.
    data: bytes | None = None

    @classmethod
    def of_bytes(cls, name: str, data: bytes) -> InputEntry:
        """A file that is made here. Raises InvalidInput where its name cannot be."""
        try:
            parts = checked_parts(name, _DEPTH)
        except ArchiveRejected as error:
            raise InvalidInput(f"files: {name!r}: {error.rule}.") from error
        if not parts or name.endswith("/"):
            raise InvalidInput(f"files: {name!r} is not a file's name.")
        return cls(Path(), "/".join(parts), len(data), data)

    @property
    def is_link(self) -> bool:
        """Whether it is a symlink that stays one: it leads to something inside."""
        if self.data is not None or self.size or not self.path.is_symlink():
            return False
        folder = tuple(self.name.split("/")[:-1])
        return link_stays_inside(folder, os.readlink(self.path))


def scan(folder: Path) -> list[InputEntry]:
    """Everything in an input folder.

    Symlinks that stay inside are kept as links; those to files outside become the file.

    Raises:
        InvalidInput: no such folder, nothing in it, or something that cannot be sent.
    """
    if not folder.is_dir():
        raise InvalidInput(f"input_dir: there is no folder {str(folder)!r}.")
    found = []
    for here, folders, names in os.walk(folder):
        inside = Path(here).relative_to(folder).parts
        for name in sorted(folders):
            path = Path(here, name)
            if path.is_symlink():
                names.append(name)
            else:
                found.append(InputEntry(path, "/".join((*inside, name)) + "/", 0))
        folders[:] = sorted(n for n in folders if not Path(here, n).is_symlink())
        found += [_entry(Path(here, n), (*inside, n)) for n in sorted(names)]
    if not any(not e.name.endswith("/") for e in found):
        raise InvalidInput(
            f"input_dir: {str(folder)!r} has no files. Leave input_dir out if none are needed."
        )
    return found


def _entry(path: Path, parts: tuple[str, ...]) -> InputEntry:
    name = "/".join(parts)
    try:
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            if link_stays_inside(parts[:-1], os.readlink(path)):
                return InputEntry(path, name, 0)
            info = path.stat()
    except OSError as error:
        raise InvalidInput(f"input_dir: {name!r} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(info.st_mode):
        raise InvalidInput(
            f"input_dir: {name!r} is not a file; copy what it stands for, or remove it."
        )
    return InputEntry(path, name, info.st_size)


class _Sink:
    """A write-only file that hands on what was written to it."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self.chunks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> bytes:
        data = b"".join(self.chunks)
        self.chunks.clear()
        return data


def zipped(entries: list[InputEntry], progress: Progress | None = None) -> Iterator[bytes]:
    """The bytes of an input archive, packed while they are read: no second copy on disk. `progress`
    gets how many bytes of the files were read, and how many there are."""
    done, size = 0, sum(entry.size for entry in entries)
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:  # type: ignore[call-overload]
        archive.writestr(_info(f"{objects.INPUT_ROOT}/", stat.S_IFDIR | 0o755), b"")
        for entry in entries:
            for read in _add(archive, entry):
                done += read
                if progress:
                    progress(done, size)
                yield sink.taken()
    yield sink.taken()


def _add(archive: zipfile.ZipFile, entry: InputEntry) -> Iterator[int]:
    """Pack one entry; yield how many bytes of it were read, again and again."""
    name = f"{objects.INPUT_ROOT}/{entry.name}"
    if entry.name.endswith("/"):
        archive.writestr(_info(name, stat.S_IFDIR | 0o755), b"")
        return
    if entry.data is not None:
        archive.writestr(_info(name, stat.S_IFREG | 0o644), entry.data)
        yield entry.size
        return
    if entry.is_link:
        archive.writestr(_info(name, stat.S_IFLNK | 0o777), os.readlink(entry.path).encode())
        return
    with entry.path.open("rb") as source:
        info = _info(name, stat.S_IFREG | stat.S_IMODE(os.fstat(source.fileno()).st_mode))
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=entry.size > 1 << 31) as target:
            while data := source.read(_CHUNK):
                target.write(data)
                yield len(data)
    yield 0


def _info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3  # Unix, so that the mode below counts
    info.external_attr = mode << 16
    return info


def extract_all(path: Path, folder: Path, root: str = "") -> None:
    """Unpack a whole zip into `folder`, over what is there, without the leading folder `root`.
    Raises TransferError: the archive is broken, or a name in it leads elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that a broken archive changes nothing and moving costs nothing.
    staging = Path(tempfile.mkdtemp(prefix=".unpack-", dir=folder))
    try:
        unpack(path, staging, _OUTPUT_LIMITS, keep_modes=True)
        inner = staging / root if root and (staging / root).is_dir() else staging
        _merge(inner, folder)
    except ArchiveRejected as error:
        raise TransferError(f"{path}: {error}") from error
    finally:
        shutil.rmtree(staging)


def _merge(source: Path, target: Path) -> None:
    for item in list(source.iterdir()):
        place = target / item.name
        if item.is_dir() and not item.is_symlink() and place.is_dir() and not place.is_symlink():
            _merge(item, place)
            continue
        if place.is_dir() and not place.is_symlink():
            raise TransferError(f"{place} is a folder, and a file of that name was to be written.")
        item.replace(place)
