"""Plain folders as volumes: their use, their limit, and which of them stay."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from executor.machine.volumes import WatchedDisk, choose_disk

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024


@pytest.fixture
def disk(tmp_path: Path) -> WatchedDisk:
    return WatchedDisk(tmp_path / "attempts")


def test_a_volume_is_an_empty_folder_and_the_same_one_again(disk: WatchedDisk) -> None:
    volume = disk.make("a-1", 0)
    assert list(volume.folder.iterdir()) == []
    (volume.folder / "f").write_text("x")
    assert (disk.make("a-1", 0).folder / "f").read_text() == "x"


def test_use_is_counted_in_blocks_over_all_folders(disk: WatchedDisk) -> None:
    volume = disk.make("a-1", 0)
    assert volume.used() == 0
    (volume.folder / "a/b").mkdir(parents=True)
    for name in ("f", "a/f", "a/b/f"):
        (volume.folder / name).write_bytes(b"x" * 64 * KIB)
    blocks = sum(p.stat().st_blocks * 512 for p in volume.folder.rglob("f"))
    assert volume.used() == blocks >= 3 * 64 * KIB


def test_holes_and_targets_of_links_take_no_room(disk: WatchedDisk, tmp_path: Path) -> None:
    volume = disk.make("a-1", 0)
    with (volume.folder / "holes").open("wb") as file:
        file.truncate(1024**4)
    (tmp_path / "large").write_bytes(b"x" * 256 * KIB)
    (volume.folder / "link").symlink_to(tmp_path / "large")
    (volume.folder / "folder").symlink_to(tmp_path)
    assert volume.used() < 64 * KIB


@pytest.mark.parametrize(
    ("limit", "size", "is_full"),
    [(0, 512 * KIB, False), (1024 * KIB, 256 * KIB, False), (256 * KIB, 256 * KIB, True)],
)
def test_a_volume_is_full_at_its_limit(
    disk: WatchedDisk, limit: int, size: int, is_full: bool
) -> None:
    volume = disk.make("a-1", limit)
    (volume.folder / "f").write_bytes(os.urandom(size))
    assert volume.limit == limit
    assert volume.is_full() is is_full


def test_a_closed_volume_is_gone_and_uses_nothing(disk: WatchedDisk) -> None:
    volume = disk.make("a-1", 1)
    (volume.folder / "f").write_text("x")
    volume.close()
    volume.close()
    assert not volume.folder.exists()
    assert (volume.used(), volume.is_full()) == (0, False)


def test_cleaning_up_keeps_only_the_named_volumes(disk: WatchedDisk) -> None:
    kept, gone = disk.make("a-1", 0).folder, disk.make("b-1", 0).folder
    (gone / "f").write_text("x")
    disk.clean_up(frozenset({"a-1", "c-1"}))
    assert (kept.is_dir(), gone.exists()) == (True, False)
    disk.close()
    assert kept.is_dir()


def test_without_a_limit_volumes_are_plain_folders(tmp_path: Path) -> None:
    assert choose_disk(tmp_path, 0).name == "watched"
