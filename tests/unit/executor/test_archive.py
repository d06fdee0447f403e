"""Archives from strangers, and outputs that nobody planned."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import struct
import tempfile
import time
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.archive import PackOptions, snapshot
from executor.archive import pack as pack_into
from executor.archive.pack import MAX_DEPTH, PackResult
from simherd.contract.archive import ArchiveLimits, ArchiveRejected, unpack
from simherd.contract.archive.paths import link_stays_inside

Entry = tuple[str, bytes, int]


def pack(root: Path, archive: Path, prefix: str = "artifacts/", **options: Any) -> PackResult:
    """Pack into a file."""
    with archive.open("wb") as out:
        return pack_into(root, out, PackOptions(**options), prefix=prefix)


FILE, FOLDER, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


def file(name: str, data: bytes = b"x", mode: int = FILE) -> Entry:
    return name, data, mode


def link(name: str, target: str) -> Entry:
    return name, target.encode(), LINK


def archive_of(folder: Path, *entries: Entry, method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "in.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as zipped:
        warnings.simplefilter("ignore")  # about names that occur twice: here on purpose
        for name, data, mode in entries:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = method
            zipped.writestr(info, data)
    return path


def tree(root: Path) -> dict[str, bytes | None]:
    """Path -> contents, None for folders."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


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


# Packing


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.testzip() is None
        return zipped.namelist()


def test_only_what_changed_is_packed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    for name in ("same", "longer", "replaced", "touched", "d/same"):
        (root / name).write_text("old")
    before = snapshot(root)
    assert set(before) == {"same", "longer", "replaced", "touched", "d/same"}
    (root / "longer").write_text("old and new")
    stamps = (root / "replaced").stat()
    (root / "new").write_text("NEW")
    os.utime(root / "new", ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
    os.replace(root / "new", root / "replaced")
    os.utime(root / "touched", ns=(1, 1))
    (root / "d" / "made").write_text("made")
    result = pack(root, tmp_path / "out.zip", unchanged=before)
    assert names(tmp_path / "out.zip") == [
        "artifacts/",
        "artifacts/d/",
        "artifacts/d/made",
        "artifacts/longer",
        "artifacts/replaced",
        "artifacts/touched",
    ]
    assert (result.files, result.bytes, result.notes) == (4, 4 + 11 + 3 + 3, ())
    assert result.zipped_bytes == (tmp_path / "out.zip").stat().st_size
    assert result.complete


def test_nothing_odd_is_followed_or_hangs(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "file").write_text("fine")
    (root / "inside").symlink_to("deep/../file")
    (root / "deep" / "up").symlink_to("../file")
    (root / "outside").symlink_to("../secret")
    (root / "passwd").symlink_to("/etc/passwd")
    (root / "folder").symlink_to("/etc")
    os.mkfifo(root / "fifo")
    if os.geteuid() == 0:
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(root / "socket"))
        result = pack(root, tmp_path / "out.zip")
    assert names(tmp_path / "out.zip") == [
        "artifacts/",
        "artifacts/deep/",
        "artifacts/deep/up",
        "artifacts/file",
    ]
    noted = {note.split(":")[0] for note in result.notes}
    odd = {"inside", "outside", "passwd", "folder", "fifo", "socket"}
    assert noted == odd | ({"null"} if os.geteuid() == 0 else set())
    assert b"secret" not in (tmp_path / "out.zip").read_bytes()
    unpack(tmp_path / "out.zip", tmp_path / "back")
    assert (tmp_path / "back/artifacts/deep/up").read_text() == "fine"


def test_odd_names_are_escaped_and_stay_apart(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in (b"\xff", b"%FF", b"a\nb", b"back\\slash", "é".encode()):
        Path(os.fsdecode(bytes(root) + b"/" + name)).write_bytes(name)
    assert pack(root, tmp_path / "out.zip").files == 5
    unpack(tmp_path / "out.zip", tmp_path / "back")
    assert tree(tmp_path / "back" / "artifacts") == {
        "%FF": b"%FF",
        "%FF~2": b"\xff",
        "a%0Ab": b"a\nb",
        "back%5Cslash": b"back\\slash",
        "é": "é".encode(),
    }


def test_odd_times_modes_and_depths(tmp_path: Path) -> None:
    root = tmp_path / "root"
    deep = root
    for _ in range(MAX_DEPTH + 2):
        deep = deep / "d"
    deep.mkdir(parents=True)
    for name, when in (("old", 0), ("older", -10_000_000_000), ("new", 10_000_000_000)):
        (root / name).write_text(name)
        os.utime(root / name, (when, when))
    (root / "run").write_text("#!")
    (root / "run").chmod(0o751)
    result = pack(root, tmp_path / "out.zip", prefix="")
    assert [note.split(": ", 1)[1] for note in result.notes] == [
        f"not packed: more than {MAX_DEPTH} folders below one another"
    ]
    with zipfile.ZipFile(tmp_path / "out.zip") as zipped:
        assert zipped.getinfo("old").date_time[0] == 1980
        assert zipped.getinfo("older").date_time[0] == 1980
        assert zipped.getinfo("new").date_time[0] == 2107
        assert zipped.getinfo("run").external_attr >> 16 == stat.S_IFREG | 0o751


def test_compressed_files_are_stored(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a.txt", "a.PNG", "a.gz"):
        (root / name).write_bytes(b"x" * 5000)
    pack(root, tmp_path / "out.zip", prefix="")
    with zipfile.ZipFile(tmp_path / "out.zip") as zipped:
        assert {i.filename: i.compress_type for i in zipped.infolist()} == {
            "a.txt": zipfile.ZIP_DEFLATED,
            "a.PNG": zipfile.ZIP_STORED,
            "a.gz": zipfile.ZIP_STORED,
        }


class Meddler(io.BytesIO):
    """An archive's medium during whose writing something else happens."""

    def __init__(self, happening: object) -> None:
        super().__init__()
        self._happening = happening

    def write(self, data: object) -> int:
        if callable(self._happening) and self.tell() > 1_000_000:
            happening, self._happening = self._happening, None
            happening()
        return super().write(data)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "word"), [(100, "shrank"), (9_000_000, "grew")])
def test_a_file_that_changes_meanwhile(tmp_path: Path, size: int, word: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "data").write_bytes(os.urandom(5_000_000))
    out = Meddler(lambda: os.truncate(root / "data", size))
    result = pack_into(root, out)
    (note,) = result.notes
    assert word in note
    with zipfile.ZipFile(out) as zipped:
        assert zipped.testzip() is None
        assert zipped.getinfo("artifacts/data").file_size == result.bytes <= 5_000_000


def test_the_deadline_ends_packing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_text("a")
    result = pack(root, tmp_path / "out.zip", deadline=time.monotonic())
    assert (result.files, result.complete) == (0, False)
    assert "out of time" in result.notes[0]
    assert names(tmp_path / "out.zip") == ["artifacts/"]


def test_an_archive_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(os.urandom(100_000))
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "wb", 0) as full:
        pack_into(root, full)
    with pytest.raises(FileNotFoundError):
        pack(tmp_path / "missing", tmp_path / "out.zip")


def test_what_taking_the_archive_raises_comes_through(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(100_000))

    class Refusing(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise LookupError("refused")

    with pytest.raises(LookupError, match="refused"):
        pack_into(tmp_path, Refusing())


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("size", [1024**2, 1024**2 + 1, 9 * 1024**2 + 7])
def test_a_large_file_is_compressed_in_blocks(tmp_path: Path, size: int, workers: int) -> None:
    root = tmp_path / "root"
    root.mkdir()
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (root / "data.bin").write_bytes(data)
    result = pack(root, tmp_path / "out.zip", workers=workers)
    assert result.zipped_bytes < size / 10
    with zipfile.ZipFile(tmp_path / "out.zip") as zipped:
        assert zipped.read("artifacts/data.bin") == data


def test_compression_can_be_off(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "data.bin").write_bytes(bytes(100_000))
    assert pack(root, tmp_path / "out.zip", compress=False).zipped_bytes > 100_000


def test_every_entry_is_listed_with_its_checksum(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (root / "d" / "f").write_bytes(b"hello")
    (root / "d" / "f").chmod(0o640)
    (root / "d" / "l").symlink_to("f")
    os.mkfifo(root / "fifo")
    listed: list[dict[str, Any]] = []
    pack(root, tmp_path / "out.zip", list_entry=listed.append)
    found = {e["path"]: e for e in listed}
    assert found["d/f"]["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert found["d/f"]["crc32"] == f"{zlib.crc32(b'hello'):08x}"
    assert (found["d/f"]["size"], found["d/f"]["mode"]) == (5, "0640")
    assert (found["d/l"]["kind"], found["d/l"]["target"]) == ("link", "f")
    assert "FIFO" in found["fifo"]["note"]


def test_further_files_replace_what_the_folder_has_of_their_names(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "m.csv").write_text("theirs")
    (tmp_path / "ours").write_text("ours")
    pack(root, tmp_path / "out.zip", extra={"m.csv": tmp_path / "ours"})
    with zipfile.ZipFile(tmp_path / "out.zip") as zipped:
        assert zipped.read("artifacts/m.csv") == b"ours"


def test_times_and_holes_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with (root / "sparse").open("wb") as out:
        out.write(b"start")
        out.truncate(20 * 1024**2)
    os.utime(root / "sparse", (1_600_000_001, 1_600_000_001))
    pack(root, tmp_path / "out.zip")
    unpack(tmp_path / "out.zip", tmp_path / "back")
    back = tmp_path / "back" / "artifacts" / "sparse"
    assert back.read_bytes() == b"start" + bytes(20 * 1024**2 - 5)
    assert back.stat().st_blocks * 512 < 3 * 1024**2
    assert back.stat().st_mtime == 1_600_000_001


def test_a_file_that_is_nearly_all_holes_is_left_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with (root / "huge").open("wb") as out:
        out.truncate(65 * 1024**3)
    result = pack(root, tmp_path / "out.zip")
    assert (result.files, len(result.notes)) == (0, 1)
    assert "holes" in result.notes[0]


def test_unpacking_can_be_given_up(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, file("a"), file("b"))

    def check() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        unpack(archive, tmp_path / "into", check=check)
    assert list((tmp_path / "into").iterdir()) == []


NAME = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", ".."))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.lists(NAME, min_size=1, max_size=4).map("/".join), st.binary()))
def test_what_is_packed_unpacks_the_same(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "root")
        root.mkdir()
        for path, data in files.items():
            target = root / path
            if not target.exists() and all(not p.is_file() for p in target.parents):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        archive, back = Path(name, "out.zip"), Path(name, "back")
        packed = pack(root, archive)
        assert unpack(archive, back).files == packed.files
        assert tree(back / "artifacts") == tree(root)
        assert packed.notes == ()
