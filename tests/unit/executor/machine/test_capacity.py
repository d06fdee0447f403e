"""Whether another attempt may come: by the real disk, and promises larger or smaller than it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from executor.machine.capacity import Capacity
from executor.machine.image_cache import ImageCache
from tests.conftest import missing

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1024**3
PIB = 1024**5


def capacity(
    folder: Path,
    reserve: int = 0,
    *,
    images_root: Path | None = None,
    removed: list[str] | None = None,
) -> Capacity:
    def remove(image: str) -> bool:
        (removed if removed is not None else []).append(image)
        return True

    file = folder / "images.json"
    file.write_text(json.dumps({"a": 1, "in-use": 2}))
    return Capacity(
        folder, images_root, reserve, ImageCache(file, remove), lambda: frozenset({"in-use"})
    )


@pytest.fixture
def free(tmp_path: Path) -> int:
    """Bytes that are free on the test's disk, which has more than 2 GiB."""
    info = os.statvfs(tmp_path)
    bytes_free = info.f_bavail * info.f_frsize
    if bytes_free < 2 * GIB or (info.f_files and info.f_favail < 0.05 * info.f_files):
        missing("the test's disk has less than 2 GiB free")
    return bytes_free


@pytest.mark.usefixtures("free")
def test_with_room_there_is_no_reason_to_wait(tmp_path: Path) -> None:
    removed: list[str] = []
    there = capacity(tmp_path, images_root=tmp_path, removed=removed)
    assert there.reason_to_wait(0) is None
    assert removed == []


@pytest.mark.usefixtures("free")
def test_promised_space_counts_as_used_and_images_are_evicted_first(tmp_path: Path) -> None:
    removed: list[str] = []
    reason = capacity(tmp_path, removed=removed).reason_to_wait(PIB)
    assert reason is not None
    assert reason.startswith(f"{tmp_path} has ")
    assert "are needed" in reason
    assert removed == ["a"]


def test_an_attempt_that_is_here_needs_no_further_room(tmp_path: Path, free: int) -> None:
    there = capacity(tmp_path)
    assert there.reason_to_wait(free - GIB // 2) is not None
    assert there.reason_to_wait(free - GIB // 2, has_place=True) is None


@pytest.mark.usefixtures("free")
def test_the_reserve_is_a_tenth_of_the_disk_at_most(tmp_path: Path) -> None:
    total = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert capacity(tmp_path, PIB).disk()[1] == int(0.1 * total)
    assert capacity(tmp_path, 12345).disk()[1] == 12345


@pytest.mark.parametrize("wanted", [1, GIB // 2, GIB])
def test_an_attempt_is_given_what_it_wants_while_there_is_room(tmp_path: Path, wanted: int) -> None:
    assert capacity(tmp_path).limit(wanted, 0) == wanted


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("booked", [0, GIB, PIB])
def test_more_than_half_of_the_rest_is_never_given(tmp_path: Path, booked: int) -> None:
    limit = capacity(tmp_path).limit(PIB, booked)
    assert limit & (limit - 1) == 0  # a power of two
    assert GIB <= limit <= max(GIB, os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize)
    if booked == PIB:
        assert limit == GIB
