"""Volumes: the folders of attempts' files, and how much they may hold.

`LoopDisk` makes a file system of that size in a sparse file: its limit holds for every kind of
file, also for deleted ones that are still open. It needs root. `WatchedDisk` is a plain folder
whose use is measured now and then, for machines where the first does not work.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

#: Part of a hard limit, and bytes of it, below which what is left counts as nothing: ext4 refuses
#: writes before the last block is given away (0.7 to 0.9 MB before, measured at 16 MiB to 1 GiB).
_FULL_SHARE, _FULL_BYTES = 0.001, 2 * 1024**2
#: Size of the file system that shows whether this machine can mount one.
_PROBE_BYTES = 16 * 1024**2
_MKFS = ("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode")
_MKFS_LAZY = ("-E", "lazy_itable_init=1,nodiscard")
#: File systems that are kept for the next attempts, and what one may hold of the disk, bytes.
_SPARES, _SMALL_BYTES = 4, 64 * 1024**2


class DiskError(Exception):
    """A volume could not be made."""


class Volume(Protocol):
    """The folder of one attempt's files."""

    @property
    def folder(self) -> Path: ...

    @property
    def limit(self) -> int:
        """Bytes that it may hold; 0 means no limit."""

    def used(self) -> int:
        """Return the bytes that it holds now."""

    def is_full(self) -> bool:
        """Return whether nothing more can be written."""

    def close(self) -> None:
        """Remove it with all that it holds."""


class Disk(Protocol):
    """The volumes of a machine, with a way to limit them."""

    @property
    def name(self) -> str: ...

    def make(self, key: str, limit: int) -> Volume:
        """Make the volume of an attempt, or return the one that it has. Raises DiskError."""

    def clean_up(self, keep: frozenset[str]) -> None:
        """Remove the volumes of all attempts but these."""

    def close(self) -> None:
        """Remove what is kept for later attempts; the volumes of present ones stay."""


class WatchedDisk:
    """A `Disk` of plain folders."""

    name = "watched"

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(exist_ok=True)

    def make(self, key: str, limit: int) -> Volume:
        folder = self._root / key
        folder.mkdir(exist_ok=True)
        return _Watched(folder, limit)

    def clean_up(self, keep: frozenset[str]) -> None:
        for folder in self._root.iterdir():
            if folder.name not in keep:
                shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """See `Disk`."""


class _Watched:
    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit

    def used(self) -> int:
        """See `Volume`. Blocks of deleted files that are still open are not counted."""
        total = 0
        # The volume may be closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            for _, _, names, fd in os.fwalk(self.folder):
                for name in names:
                    with contextlib.suppress(OSError):
                        total += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
        return total

    def is_full(self) -> bool:
        return bool(self.limit) and self.used() >= self.limit

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class LoopDisk:
    """A `Disk` with a separate file system for each attempt.

    Making, mounting and removing one takes 20 ms, emptying one takes none: those that stayed small
    are used again. An attempt's folder is a link to the mount of its file system.
    """

    name = "loop"

    def __init__(self, root: Path, images: Path) -> None:
        """`root`: the folder of the links; `images`: the folder of the sparse files and mounts.
        Raises DiskError when this machine cannot mount one."""
        self._root, self._images = root, images
        for folder in (root, images):
            folder.mkdir(exist_ok=True, mode=0o711)
        self._lock = threading.Lock()
        self._spares: list[_FileSystem] = []
        _FileSystem.make(images, _PROBE_BYTES).remove()

    def make(self, key: str, limit: int) -> Volume:
        """See `Disk`. A volume that exists keeps its limit."""
        folder = self._root / key
        try:
            if folder.is_symlink():
                return _Loop(folder, _FileSystem(folder.resolve()), self._take_back)
            file_system = self._spare(limit) or _FileSystem.make(self._images, limit)
            try:
                folder.symlink_to(file_system.mount)
            except OSError:
                self._take_back(file_system)
                raise
        except OSError as error:
            raise DiskError(f"No file system for an attempt: {error}") from error
        return _Loop(folder, file_system, self._take_back)

    def _spare(self, limit: int) -> _FileSystem | None:
        with self._lock:
            for spare in self._spares:
                if spare.size == limit:
                    self._spares.remove(spare)
                    return spare
        return None

    def _take_back(self, used: _FileSystem) -> None:
        try:
            if used.empty() and self._keeps(used):
                return
            used.remove()
        except (OSError, DiskError) as error:
            # The attempt has ended well all the same; the next agent tries again.
            log.error("event=file_system_left mount=%s error=%s", used.mount, error)

    def _keeps(self, spare: _FileSystem) -> bool:
        with self._lock:
            has_room = len(self._spares) < _SPARES
            if has_room:
                self._spares.append(spare)
        return has_room

    def clean_up(self, keep: frozenset[str]) -> None:
        for folder in self._root.iterdir():
            if folder.name not in keep:
                folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
        kept = {folder.resolve() for folder in self._root.iterdir()}
        self._spares.clear()
        for mount in self._images.glob("*.mnt"):
            if mount not in kept:
                _FileSystem(mount).remove()

    def close(self) -> None:
        with self._lock:
            spares, self._spares = self._spares, []
        for spare in spares:
            spare.remove()


class _FileSystem:
    """An ext4 file system in a sparse file, and its mount."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self._image = mount.with_suffix(".img")

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self._image.stat().st_size

    @classmethod
    def make(cls, images: Path, size: int) -> _FileSystem:
        """Make a file system and mount it. Raises OSError, DiskError."""
        new = cls(images / f"{secrets.token_hex(8)}.mnt")
        new.mount.mkdir(mode=0o755)
        try:
            with new._image.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.truncate(size)
            _run(*_MKFS, *_MKFS_LAZY, str(new._image))
            _run("mount", "-o", "loop,nosuid,nodev,noatime", str(new._image), str(new.mount))
            # Where a mount fails silently, writes would go to the machine's own disk.
            if not os.path.ismount(new.mount):
                raise DiskError(f"{new.mount} is not a mount after mounting it")
        except BaseException:
            new.remove()
            raise
        return new

    def empty(self) -> bool:
        """Remove what it holds; return whether it can be used again."""
        for entry in self.mount.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()
        # Blocks of the sparse file stay allocated, and a process may hold a file open.
        stats = os.statvfs(self.mount)
        used = (stats.f_blocks - stats.f_bfree) * stats.f_frsize
        return max(used, self._image.stat().st_blocks * 512) < _SMALL_BYTES

    def remove(self) -> None:
        """Unmount it, at the latest when its last open file is closed, and remove it."""
        if os.path.ismount(self.mount):
            try:
                _run("umount", str(self.mount))
            except DiskError as error:
                log.warning("event=umount_waits mount=%s error=%s", self.mount, error)
                _run("umount", "--lazy", str(self.mount))
        self.mount.rmdir()
        self._image.unlink(missing_ok=True)


class _Loop:
    def __init__(
        self, folder: Path, file_system: _FileSystem, give_back: Callable[[_FileSystem], None]
    ) -> None:
        self.folder = folder
        self._file_system = file_system
        self._give_back = give_back
        self._closed = False
        # Once given back, the file system belongs to another attempt.
        self._lock = threading.Lock()
        stats = os.statvfs(file_system.mount)
        #: See `Volume`, without what the file system itself needs.
        self.limit = stats.f_blocks * stats.f_frsize

    def used(self) -> int:
        stats = self._stats()
        return (stats.f_blocks - stats.f_bfree) * stats.f_frsize if stats else self.limit

    def is_full(self) -> bool:
        """See `Volume`. It is also full without inodes, however many bytes are free."""
        stats = self._stats()
        if stats is None:
            return False
        least = max(_FULL_BYTES, _FULL_SHARE * stats.f_blocks * stats.f_frsize)
        # Not f_bfree: the file system keeps some blocks for itself.
        return stats.f_bavail * stats.f_frsize < least or stats.f_ffree == 0

    def _stats(self) -> os.statvfs_result | None:
        with self._lock:
            return None if self._closed else os.statvfs(self._file_system.mount)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.folder.unlink(missing_ok=True)
            self._give_back(self._file_system)


def _run(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DiskError(f"{argv[0]} is not installed") from error
    if done.returncode:
        raise DiskError(f"{argv[0]}: {done.stderr.strip()}")


def choose_disk(state_dir: Path, limit: int) -> Disk:
    """Return file systems where this machine can mount them; else, or without a limit, folders."""
    if limit:
        try:
            return LoopDisk(state_dir / "attempts", state_dir / "disks")
        except DiskError as error:
            log.warning("event=disk_limit_watched reason=%s", error)
    return WatchedDisk(state_dir / "attempts")
