"""Whether files were changed since a snapshot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from executor.archive import Stamp, load_stamps, save_stamps, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    for name in ("f", "a/f", "a/b/f"):
        (root / name).write_text("x")
    (root / "link").symlink_to("f")
    os.mkfifo(root / "fifo")
    return root


def test_a_snapshot_has_the_regular_files_alone(root: Path) -> None:
    stamps = snapshot(root)
    assert set(stamps) == {"f", "a/f", "a/b/f"}
    info = (root / "a/f").stat()
    assert stamps["a/f"] == Stamp(1, info.st_mtime_ns, info.st_ino)


def test_a_snapshot_of_some_files_has_those(root: Path) -> None:
    assert set(snapshot(root, lambda path: path.startswith("a/"))) == {"a/f", "a/b/f"}
    assert snapshot(root, lambda _path: False) == {}


def _grow(path: Path) -> None:
    path.write_text("xy")


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, 1))


def _replace(path: Path) -> None:
    info = path.stat()
    new = path.with_suffix(".new")
    new.write_text("y")
    os.utime(new, ns=(info.st_atime_ns, info.st_mtime_ns))
    new.replace(path)


@pytest.mark.parametrize("change", [_grow, _touch, _replace])
def test_a_change_is_seen(root: Path, change: Callable[[Path], None]) -> None:
    before = snapshot(root)
    change(root / "a/f")
    after = snapshot(root)
    assert {path for path in before if before[path] != after[path]} == {"a/f"}


def test_a_snapshot_is_read_as_it_was_written(root: Path, tmp_path: Path) -> None:
    stamps = snapshot(root)
    save_stamps(stamps, tmp_path / "stamps")
    assert load_stamps(tmp_path / "stamps") == stamps


@pytest.mark.parametrize("text", [None, "", "[", '{"f": '])
def test_a_broken_snapshot_is_empty(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "stamps").write_text(text)
    assert load_stamps(tmp_path / "stamps") == {}


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        snapshot(tmp_path / "missing")
