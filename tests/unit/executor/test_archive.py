"""Archives from strangers."""

from __future__ import annotations

import os
import stat
import struct
import unicodedata
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from simherd.contract.archive import ArchiveLimits, ArchiveRejected, unpack
from simherd.contract.archive.paths import link_stays_inside
from tests.support.archives import FILE, FOLDER, Entry, archive_of, file, link, tree

if TYPE_CHECKING:
    from pathlib import Path


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
    "drive letter alone": (file("C:evil"),),
    "backslash at its start": (file("\\evil"),),
    "server and share": (file("//server/share/evil"),),
    "leads out at its end": (file("a/..", b""),),
    "leads out, as a folder": (file("../", b"", FOLDER),),
    "backslash": (file("..\\evil"),),
    "NUL": (file("good\0../evil"),),
    "newline": (file("a\nb"),),
    "escape sequence": (file("a\x1b[31m"),),
    "empty part": (file("a//b"),),
    "only dots": (file(".."),),
    "empty name": (file(""),),
    "name too long": (file("n" * 256),),
    "name of 300 bytes": (file("n" * 300),),
    "name of too many bytes, of fewer characters": (file("ä" * 128),),
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
    "link loop that leads out": (link("a", "../a"),),
    "link with a NUL": (link("a", "b\0c"),),
    "below a loop": (link("a", "a"), file("a/evil")),
    "whiteout": (file("a", b"", stat.S_IFCHR),),
    "long link": (link("a", "b" * 5000),),
}


@pytest.mark.fault("B25", "B26", "B27", "B29", "B30")
@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_archive_leaves_nothing(tmp_path: Path, entries: tuple[Entry, ...]) -> None:
    archive = archive_of(tmp_path, *entries)
    before = tree(tmp_path)
    error = refused(archive, tmp_path)
    assert error.rule in str(error)
    after = tree(tmp_path)
    after.pop("into", None)
    assert after == before


@pytest.mark.fault("B31")
def test_other_methods_and_encryption_are_refused(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(archive_of(tmp_path, file("a"), method=method), tmp_path)
    archive = archive_of(tmp_path, file("a"))
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    assert "encrypted" in refused(archive, tmp_path).rule


@pytest.mark.fault("B28", "B29")
def test_limits_hold(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, *(file(f"f{n}", b"0" * 1000) for n in range(10)))
    assert "entries" in refused(archive, tmp_path, ArchiveLimits(entries=9)).rule
    assert "9999" in refused(archive, tmp_path, ArchiveLimits(bytes=9999)).rule
    tight = ArchiveLimits(ratio=2, ratio_from_bytes=5000)
    assert "2 times" in refused(archive, tmp_path, tight).rule
    assert unpack(archive, tmp_path / "into", ArchiveLimits(entries=10, bytes=10000)).files == 10


@pytest.mark.fault("B28")
def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, file("a", b"data"), file("b", b"data"))
    data = bytearray(archive.read_bytes())
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    struct.pack_into("<L", data, second + 42, 0)  # where the second member's data starts
    archive.write_bytes(data)
    assert "overlap" in refused(archive, tmp_path).rule


@pytest.mark.fault("B28")
@pytest.mark.parametrize("lie", [1, 50, 150, 2**31])
def test_lying_sizes_are_refused(tmp_path: Path, lie: int) -> None:
    archive = archive_of(tmp_path, file("a", os.urandom(100)))
    data = bytearray(archive.read_bytes())
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, lie)
    archive.write_bytes(data)
    refused(archive, tmp_path)


@pytest.mark.fault("B28", "B31")
def test_a_directory_with_more_than_it_says_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, *(file(str(n)) for n in range(50)))
    data = archive.read_bytes()
    end = data.rindex(b"PK\5\6")
    # Entries on this disk, and in all: what is counted before any is read into memory.
    archive.write_bytes(data[: end + 8] + struct.pack("<2H", 1, 1) + data[end + 12 :])
    assert refused(archive, tmp_path).rule == "its directory is not as its end says"


@pytest.mark.fault("B31")
def test_broken_archives_are_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, file("a", b"some data " * 50), file("b", b"more"))
    whole = archive.read_bytes()
    for broken in (b"", b"PK", whole[:-1], whole[:-30], whole[30:], whole + b"junk", b"\0" * 100):
        archive.write_bytes(broken)
        refused(archive, tmp_path)


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


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "a").write_text("mine")
    with pytest.raises(ArchiveRejected, match="exists already"):
        unpack(archive_of(tmp_path, file("b"), file("a")), into)
    assert tree(into) == {"a": b"mine"}
    unpack(archive_of(tmp_path, file("b")), into)
    assert tree(into) == {"a": b"mine", "b": b"x"}


@pytest.mark.fault("B26")
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


@pytest.mark.fault("B27")
@pytest.mark.parametrize("keep_modes", [False, True])
def test_unpacked_modes_neither_widen_nor_remove_access(tmp_path: Path, keep_modes: bool) -> None:
    archive = archive_of(
        tmp_path,
        file("closed/", b"", stat.S_IFDIR),
        file("closed/a", b"x", stat.S_IFREG),
        file("sticky/", b"", stat.S_IFDIR | 0o7777),
        file("root", b"x", stat.S_IFREG | 0o6755),
        file("private", b"x", stat.S_IFREG | 0o600),
    )
    into = tmp_path / "into"
    unpack(archive, into, keep_modes=keep_modes)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in into.rglob("*")}
    assert modes == {
        "closed": 0o755,
        "a": 0o644,
        "sticky": 0o755,
        "root": 0o755,
        "private": 0o600 if keep_modes else 0o644,
    }


@pytest.mark.fault("B26")
def test_a_loop_of_links_is_followed_by_nothing(tmp_path: Path) -> None:
    entries = (link("a", "b"), link("b", "a"), link("d/self", "../d"), file("d/f"))
    result = unpack(archive_of(tmp_path, *entries), tmp_path / "into")
    assert (result.files, result.bytes) == (1, 1)
    with pytest.raises(OSError, match="Too many levels"):
        (tmp_path / "into" / "a").read_bytes()


@pytest.mark.fault("B28")
def test_archives_in_archives_stay_closed(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    inner = archive_of(tmp_path / "inner", file("zeros", bytes(10**6))).read_bytes()
    archive = archive_of(tmp_path, file("inner.zip", inner))
    unpack(archive, tmp_path / "into")
    assert tree(tmp_path / "into") == {"inner.zip": inner}


@pytest.mark.fault("B28")
def test_real_bytes_are_counted_and_the_limit_is_named(tmp_path: Path) -> None:
    """1028:1: as much as deflate packs zeros."""
    archive = archive_of(tmp_path, file("zeros", bytes(1028 * 2000)))
    assert archive.stat().st_size < 4000
    error = refused(archive, tmp_path, ArchiveLimits(bytes=1_000_000))
    assert "more than 1000000" in error.rule
    error = refused(archive, tmp_path, ArchiveLimits(ratio_from_bytes=1_000_000))
    assert "more than 200 times its size" in error.rule


@pytest.mark.fault("B30")
@pytest.mark.parametrize("twins", [("U", "u"), ("caf\u00e9", "cafe\u0301")])
def test_names_that_look_alike_never_replace_each_other(
    tmp_path: Path, twins: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(tmp_path, file(twins[0], b"one"), file(twins[1], b"two"))
    unpack(archive, tmp_path / "apart")
    assert tree(tmp_path / "apart") == {twins[0]: b"one", twins[1]: b"two"}
    # A file system to which they are one name, as those of macOS and Windows are.
    opened = os.open

    def folded(path: str, flags: int, mode: int = 0o777, **more: Any) -> int:
        if flags & os.O_CREAT:
            folder, name = os.path.split(path)
            path = os.path.join(folder, unicodedata.normalize("NFC", name).casefold())
        return opened(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", folded)
    error = refused(archive, tmp_path)
    assert "the same name on this file system" in error.rule
    assert error.member == twins[1]
