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
    """Looks at the work disk and the disk of the engine's images."""

    def __init__(
        self,
        work: Path,
        images_root: Path | None,
        reserve: int,
        images: ImageCache,
        in_use: Callable[[], frozenset[str]],
    ) -> None:
        """`reserve`: bytes of each disk that no attempt is given; `in_use`: images that stay."""
        self._work = work
        self._images_root = images_root
        self._reserve = reserve
        self._images = images
        self._in_use = in_use

    def reason_to_wait(self, booked: int, *, has_place: bool = False) -> str | None:
        """Why nothing may be claimed now; None when it may.

        Removes images where that helps. `booked`: bytes that the attempts here may still take;
        `has_place`: the next one is among them.
        """
        least = 0 if has_place else _LEAST_BYTES
        for place in dict.fromkeys(p for p in (self._work, self._images_root) if p is not None):
            promised = booked + least if place == self._work else 0
            if self._lacks(place, promised) is None:
                continue
            gone = self._images.evict(lambda: self._lacks(place, promised) is None, self._in_use())  # noqa: B023
            if gone:
                log.warning("event=images_evicted images=%s", ",".join(gone))
            lacking = self._lacks(place, promised)
            if lacking is not None:
                return lacking
        return None

    def disk(self) -> tuple[int, int]:
        """Bytes free on the work disk, and the bytes of it that no attempt is given."""
        found = os.statvfs(self._work)
        return found.f_bavail * found.f_frsize, self._reserve_of(found)

    def limit(self, wanted: int, booked: int) -> int:
        """The bytes that an attempt is given: as many as are wanted, or half of what is left.

        Half, because the next one is fetched while this one computes, and needs a place, too. And
        in powers of two, so that a file system that was made can be used again.
        """
        half = max(_LEAST_BYTES, (self._free(self._work) - booked) // 2)
        return wanted if wanted <= half else 1 << (half.bit_length() - 1)

    def _lacks(self, place: Path, promised: int) -> str | None:
        found = os.statvfs(place)
        if found.f_files and found.f_favail < _INODES_SHARE * found.f_files:
            return f"{place} has {found.f_favail} of {found.f_files} inodes free"
        free = max(0, self._free(place))
        if free < promised:
            return f"{place} has {format_bytes(free)} free, {format_bytes(promised)} are needed"
        return None

    def _free(self, place: Path) -> int:
        """Bytes free, less the reserve; negative when it is touched."""
        found = os.statvfs(place)
        return found.f_bavail * found.f_frsize - self._reserve_of(found)

    def _reserve_of(self, found: os.statvfs_result) -> int:
        return min(self._reserve, int(_RESERVE_SHARE * found.f_blocks * found.f_frsize))
