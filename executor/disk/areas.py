"""Where an attempt's files lie, and how much they may take.

`LoopDisk` makes a file system of that size in a sparse file: full is full, whatever the files are
and whoever still holds them open. It needs root. `WatchedDisk` is a plain folder whose use is
looked up now and then: a second line, for machines where the first is not to be had.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

#: Part of a hard limit, and bytes of it, below which what is left counts as nothing: ext4 refuses
#: writes before the last block is given away (0.7 to 0.9 MB before, measured at 16 MiB to 1 GiB).
_FULL_SHARE, _FULL_BYTES = 0.001, 2 * 1024**2
#: Size of the file system that shows whether this machine can mount one.
_PROBE_BYTES = 16 * 1024**2
_MKFS = ("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode")
_MKFS_LAZY = ("-E", "lazy_itable_init=1,nodiscard")


class DiskError(Exception):
    """No place for an attempt's files could be made."""


class Area(Protocol):
    """One attempt's place."""

    @property
    def folder(self) -> Path: ...

    @property
    def limit(self) -> int:
        """Bytes that it may hold; 0 is no limit."""

    def used(self) -> int:
        """Bytes that it holds now."""

    def is_full(self) -> bool:
        """Whether nothing more may be written."""

    def close(self) -> None:
        """Remove it with all that it holds."""


class Disk(Protocol):
    """A way to limit what attempts write."""

    @property
    def name(self) -> str: ...

    def make(self, key: str, limit: int) -> Area:
        """A place for an attempt, or the one that was made for it before. Raises DiskError."""

    def clean_up(self, keep: frozenset[str]) -> None:
        """Remove the places of all attempts but these."""


class WatchedDisk:
    """Plain folders."""

    name = "watched"

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(exist_ok=True)

    def make(self, key: str, limit: int) -> Area:
        """See `Disk`."""
        folder = self._root / key
        folder.mkdir(exist_ok=True)
        return _Watched(folder, limit)

    def clean_up(self, keep: frozenset[str]) -> None:
        """See `Disk`."""
        for folder in self._root.iterdir():
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)


class _Watched:
    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def used(self) -> int:
        """See `Area`. Blocks that are held open by a deleted file are not seen."""
        total = 0
        # It may be closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            for _, _, names, fd in os.fwalk(self.folder):
                for name in names:
                    with contextlib.suppress(OSError):
                        total += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
        return total

    def is_full(self) -> bool:
        """See `Area`."""
        return bool(self.limit) and self.used() >= self.limit

    def close(self) -> None:
        """See `Area`."""
        shutil.rmtree(self.folder, ignore_errors=True)


class LoopDisk:
    """A file system of its own for each attempt."""

    name = "loop"

    def __init__(self, root: Path, images: Path) -> None:
        """`root`: where they are mounted; `images`: where their files lie.

        Raises DiskError when this machine cannot mount one.
        """
        self._root, self._images = root, images
        for folder in (root, images):
            folder.mkdir(exist_ok=True, mode=0o711)
        self._templates: dict[int, Path] = {}
        probe = self.make("probe", _PROBE_BYTES)
        probe.close()

    def make(self, key: str, limit: int) -> Area:
        """See `Disk`. The limit of one that was made before is its own."""
        folder, image = self._root / key, self._images / f"{key}.img"
        folder.mkdir(exist_ok=True)
        if not os.path.ismount(folder):
            try:
                _copy_sparse(self._template(limit), image)
                _run("mount", "-o", "loop,nosuid,nodev,noatime", str(image), str(folder))
            except (OSError, DiskError) as error:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    image.unlink(missing_ok=True)
                raise DiskError(f"No file system for an attempt: {error}") from error
            # Where a mount fails silently, writes would go to the machine's own disk.
            if not os.path.ismount(folder):
                raise DiskError(f"{folder} is not a mount after mounting it")
        return _Loop(folder, image)

    def _template(self, limit: int) -> Path:
        """An empty file system: making one takes longer than copying its few used blocks."""
        path = self._templates.get(limit)
        if path is None:
            path = self._images / f"template-{limit}"
            with path.open("wb") as file:
                file.truncate(limit)
            _run(*_MKFS, *_MKFS_LAZY, str(path))
            self._templates = {limit: path}
            for old in self._images.glob("template-*"):
                if old != path:
                    old.unlink()
        return path

    def clean_up(self, keep: frozenset[str]) -> None:
        """See `Disk`."""
        for folder in self._root.iterdir():
            if folder.name not in keep:
                _Loop(folder, self._images / f"{folder.name}.img").close()
        for image in self._images.glob("*.img"):
            if image.stem not in keep:
                image.unlink()


class _Loop:
    def __init__(self, folder: Path, image: Path) -> None:
        self.folder = folder
        self._image = image
        self._closed = False
        # Once it is unmounted, its folder would tell of the machine's own disk.
        self._lock = threading.Lock()
        found = os.statvfs(folder)
        #: See `Area`. What the file system needs for itself is not part of it.
        self.limit = found.f_blocks * found.f_frsize

    def used(self) -> int:
        """See `Area`."""
        found = self._look()
        return (found.f_blocks - found.f_bfree) * found.f_frsize if found else self.limit

    def is_full(self) -> bool:
        """See `Area`. Without inodes nothing can be made, however many bytes are free."""
        found = self._look()
        if found is None:
            return False
        nothing = max(_FULL_BYTES, _FULL_SHARE * found.f_blocks * found.f_frsize)
        # Not f_bfree: the file system keeps some blocks for itself.
        return found.f_bavail * found.f_frsize < nothing or found.f_ffree == 0

    def _look(self) -> os.statvfs_result | None:
        with self._lock:
            return None if self._closed else os.statvfs(self.folder)

    def close(self) -> None:
        """See `Area`."""
        with self._lock:
            self._closed = True
            if os.path.ismount(self.folder):
                try:
                    _run("umount", str(self.folder))
                except DiskError as error:
                    log.warning("event=umount_waits folder=%s error=%s", self.folder, error)
                    _run("umount", "--lazy", str(self.folder))
            shutil.rmtree(self.folder, ignore_errors=True)
            self._image.unlink(missing_ok=True)


def _run(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DiskError(f"{argv[0]} is not installed") from error
    if done.returncode:
        raise DiskError(f"{argv[0]}: {done.stderr.strip()}")


def _copy_sparse(source: Path, target: Path) -> None:
    """Copy a file's data and leave its holes."""
    with source.open("rb") as reader, target.open("wb") as writer:
        os.fchmod(writer.fileno(), 0o600)
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        position = 0
        while position < size:
            try:
                begin = os.lseek(reader.fileno(), position, os.SEEK_DATA)
            except OSError:  # no more data
                return
            position = os.lseek(reader.fileno(), begin, os.SEEK_HOLE)
            while begin < position:
                begin += os.copy_file_range(
                    reader.fileno(), writer.fileno(), position - begin, begin, begin
                )


def choose_disk(state_dir: Path, limit: int) -> Disk:
    """The hardest limit that this machine can keep; plain folders where there is no limit."""
    if limit:
        try:
            return LoopDisk(state_dir / "attempts", state_dir / "disks")
        except DiskError as error:
            log.warning("event=disk_limit_watched reason=%s", error)
    return WatchedDisk(state_dir / "attempts")
