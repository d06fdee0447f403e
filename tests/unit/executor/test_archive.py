"""Archives from strangers."""

from __future__ import annotations

import os
import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simherd.contract.archive import ArchiveLimits, ArchiveRejected, unpack
from simherd.contract.archive.paths import link_stays_inside
from tests.support.archives import FILE, FOLDER, Entry, archive_of, file, link, tree


def refused(archive: Path, folder: Path, limits: ArchiveLimits | None = None) -> ArchiveRejected:
    into = folder / "into"
    with pytest.raises(ArchiveRejected) as caught:
        unpack(archive, into, limits)
    assert not into.exists() or list(into.iterdir()) == [], "something was left behind"
    return caught.value


HOSTILE: dict[str, tuple[Entry, ...]] = {
    "leads out": (file("a"), file("../evil")),
    "leads out in the middle": (file("a/../../evil"),),
    "absolute": (file("/etc/evil"),),
    "drive letter": (file("C:/evil"),),
    "backslash": (file("..\\evil"),),
    "NUL": (file("good\0../evil"),),
    "newline": (file("a\nb"),),
    "escape sequence": (file("a\x1b[31m"),),
    "empty part": (file("a//b"),),
    "only dots": (file(".."),),
    "empty name": (file(""),),
    "name too long": (file("n" * 256),),
    "path too long": (file("/".join(["n" * 250] * 20)),),
    "too deep": (file("/".join(["d"] * 5000)),),
    "twice": (file("a"), file("b"), file("a")),
    "twice, with a dot": (file("a/b"), file("a/./b")),
    "folder and file": (file("a"), file("a/", b"", FOLDER)),
    "below a file": (file("a"), file("a/b")),
    "link up": (link("a", "../evil"),),
    "link absolute": (link("a", "/etc/passwd"),),
    "link out by two": (link("d/a", "../../evil"),),
    "link through a name": (link("d/e/f", "../.."), link("y", "d/e/f/../evil")),
    "below a link": (link("a", "b"), file("a/evil")),
    "below a link that comes later": (file("a/evil"), link("a", "b")),
    "device": (file("a", b"", stat.S_IFBLK | 0o666),),
    "character device": (file("a", b"", stat.S_IFCHR | 0o666),),
    "FIFO": (file("a", b"", stat.S_IFIFO | 0o666),),
    "socket": (file("a", b"", stat.S_IFSOCK | 0o666),),
    "file that is a folder": (file("a/", b"", FILE),),
    "folder that is a file": (file("a", b"", FOLDER),),
    "folder with contents": (file("a/", b"contents", FOLDER),),
    "long link": (link("a", "b" * 5000),),
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_leaves_nothing(tmp_path: Path, entries: tuple[Entry, ...]) -> None:
    archive = archive_of(tmp_path, *entries)
    before = tree(tmp_path)
    error = refused(archive, tmp_path)
    assert error.rule in str(error)
    after = tree(tmp_path)
    after.pop("into", None)
    assert after == before


def test_other_methods_and_encryption_are_refused(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(archive_of(tmp_path, file("a"), method=method), tmp_path)
    archive = archive_of(tmp_path, file("a"))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    assert "encrypted" in refused(archive, tmp_path).rule


def test_limits_hold(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, *(file(f"f{n}", b"0" * 1000) for n in range(10)))
    assert "entries" in refused(archive, tmp_path, ArchiveLimits(entries=9)).rule
    assert "9999" in refused(archive, tmp_path, ArchiveLimits(bytes=9999)).rule
    tight = ArchiveLimits(ratio=2, ratio_from_bytes=5000)
    assert "2 times" in refused(archive, tmp_path, tight).rule
    assert unpack(archive, tmp_path / "into", ArchiveLimits(entries=10, bytes=10000)).files == 10


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, file("zeros", bytes(120 * 1024**2)))
    assert "times its size" in refused(archive, tmp_path).rule


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, file("a", b"data"), file("b", b"data"))
    data = bytearray(archive.read_bytes())
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    struct.pack_into("<L", data, second + 42, 0)  # where the second member's data starts
    archive.write_bytes(data)
    assert "overlap" in refused(archive, tmp_path).rule


@pytest.mark.parametrize("lie", [1, 50, 150, 2**31])
def test_lying_sizes_are_refused(tmp_path: Path, lie: int) -> None:
    archive = archive_of(tmp_path, file("a", os.urandom(100)))
    data = bytearray(archive.read_bytes())
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, lie)
    archive.write_bytes(data)
    refused(archive, tmp_path)


def test_broken_archives_are_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, file("a", b"some data " * 50), file("b", b"more"))
    whole = archive.read_bytes()
    for broken in (b"", b"PK", whole[:-1], whole[:-30], whole[30:], whole + b"junk", b"\0" * 100):
        archive.write_bytes(broken)
        refused(archive, tmp_path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "box").mkdir()
        entries = (file("a", b"some data " * 50), file("d/", b"", FOLDER), link("d/l", "../a"))
        archive = archive_of(folder, *entries)
        bytes_ = bytearray(archive.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(bytes_) - 1))
            bytes_[at] = data.draw(st.integers(0, 255))
        archive.write_bytes(bytes_)
        before = set(folder.iterdir())
        try:
            unpack(archive, folder / "box" / "into")
        except ArchiveRejected:
            left = list((folder / "box").rglob("*"))
            assert left in ([], [folder / "box" / "into"])
        assert set(folder.iterdir()) == before


def test_a_good_archive_unpacks(tmp_path: Path) -> None:
    archive = archive_of(
        tmp_path,
        file("case/", b"", stat.S_IFDIR),
        file("case/run.sh", b"#!/bin/sh\n", stat.S_IFREG | 0o4777),
        file("case/data.txt", b"1 2 3", stat.S_IFREG),
        file("./case/CASE", b"", 0),
        file("case/case", b"", 0),
        link("case/sub/up", "../data.txt"),
        link("loop", "loop"),
        file("näme 日本", b"utf-8"),
    )
    into = tmp_path / "new" / "into"
    result = unpack(archive, into)
    assert (result.files, result.bytes) == (5, 10 + 5 + 5)
    assert stat.S_IMODE((into / "case" / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((into / "case" / "data.txt").stat().st_mode) == 0o644
    assert stat.S_IMODE((into / "case").stat().st_mode) == 0o755
    assert (into / "case" / "sub" / "up").read_bytes() == b"1 2 3"
    assert (into / "näme 日本").read_bytes() == b"utf-8"
    assert sorted(path.name for path in into.iterdir()) == ["case", "loop", "näme 日本"]


def test_an_empty_archive_is_one(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    assert archive.stat().st_size == 22
    assert unpack(archive, tmp_path / "into") == unpack(archive, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "a").write_text("mine")
    with pytest.raises(ArchiveRejected, match="exists already"):
        unpack(archive_of(tmp_path, file("b"), file("a")), into)
    assert tree(into) == {"a": b"mine"}
    unpack(archive_of(tmp_path, file("b")), into)
    assert tree(into) == {"a": b"mine", "b": b"x"}


def test_zip64_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "in.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for n in range(70_000):
            zipped.writestr(zipfile.ZipInfo(f"{n}"), b"")
    assert "entries" in refused(archive, tmp_path, ArchiveLimits(entries=69_999)).rule
    with archive.open("rb") as opened:
        opened.seek(-22, os.SEEK_END)
        assert opened.read()[8:10] == b"\xff\xff"


@pytest.mark.parametrize(
    ("folder", "target", "inside"),
    [
        ((), "a", True),
        ((), "./a//b", True),
        (("d",), "../a", True),
        (("d", "e"), "../../a", True),
        ((), "..", False),
        (("d",), "../../a", False),
        (("d",), "a/../b", False),
        ((), "/a", False),
        ((), "", False),
    ],
)
def test_where_links_lead(folder: tuple[str, ...], target: str, inside: bool) -> None:
    assert link_stays_inside(folder, target) is inside


def test_unpacking_can_be_given_up(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, file("a"), file("b"))

    def check() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        unpack(archive, tmp_path / "into", check=check)
    assert list((tmp_path / "into").iterdir()) == []
