"""Whether this machine has room for another attempt."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from simherd.utils import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from executor.machine.image_cache import ImageCache

log = logging.getLogger(__name__)

#: The reserve is never more than this share of a disk.
_RESERVE_SHARE = 0.1
#: Inodes that must be free, as a share of all.
_INODES_SHARE = 0.02
#: Bytes that an attempt must be able to have, or it is not claimed.
_LEAST_BYTES = 1024**3


class Capacity:
    """Free space of the work disk and of the disk with the engine's images."""

    def __init__(
        self,
        work: Path,
        images_root: Path | None,
        reserve: int,
        images: ImageCache,
        in_use: Callable[[], frozenset[str]],
    ) -> None:
        """`reserve`: bytes of each disk that no attempt gets; `in_use`: returns images to keep."""
        self._work = work
        self._images_root = images_root
        self._reserve = reserve
        self._images = images
        self._in_use = in_use

    def reason_to_wait(self, booked: int, *, has_place: bool = False) -> str | None:
        """Return why nothing may be claimed now; None when it may.

        Removes images where that helps. `booked`: bytes that the present attempts may still take;
        `has_place`: the next attempt is one of them.
        """
        least = 0 if has_place else _LEAST_BYTES
        for disk in dict.fromkeys(p for p in (self._work, self._images_root) if p is not None):
            promised = booked + least if disk == self._work else 0
            if self._lacks(disk, promised) is None:
                continue
            has_room = lambda: self._lacks(disk, promised) is None  # noqa: B023, E731
            evicted = self._images.evict(has_room, self._in_use())
            if evicted:
                log.warning("event=images_evicted images=%s", ",".join(evicted))
            lacking = self._lacks(disk, promised)
            if lacking is not None:
                return lacking
        return None

    def disk(self) -> tuple[int, int]:
        """Return the bytes free on the work disk, and the bytes of it that no attempt gets."""
        stats = os.statvfs(self._work)
        return stats.f_bavail * stats.f_frsize, self._reserve_of(stats)

    def limit(self, wanted: int, booked: int) -> int:
        """Return the bytes that an attempt gets: all that are `wanted`, or half of what is left.

        Half, because the next attempt is prefetched while this one computes, and needs room, too.
        In powers of two, so that a file system can be used again.
        """
        half = max(_LEAST_BYTES, (self._free(self._work) - booked) // 2)
        return wanted if wanted <= half else 1 << (half.bit_length() - 1)

    def _lacks(self, disk: Path, promised: int) -> str | None:
        stats = os.statvfs(disk)
        if stats.f_files and stats.f_favail < _INODES_SHARE * stats.f_files:
            return f"{disk} has {stats.f_favail} of {stats.f_files} inodes free"
        free = max(0, self._free(disk))
        if free < promised:
            return f"{disk} has {format_bytes(free)} free, {format_bytes(promised)} are needed"
        return None

    def _free(self, disk: Path) -> int:
        """Return the bytes free less the reserve, which is negative when that is touched."""
        stats = os.statvfs(disk)
        return stats.f_bavail * stats.f_frsize - self._reserve_of(stats)

    def _reserve_of(self, stats: os.statvfs_result) -> int:
        return min(self._reserve, int(_RESERVE_SHARE * stats.f_blocks * stats.f_frsize))
