"""Outputs that nobody planned, packed."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from executor.archive import pack as pack_into
from executor.archive import snapshot
from executor.files.confined import MAX_DEPTH
from simherd.contract.archive import unpack
from tests.support.archives import pack, tree


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


def test_an_error_of_the_consumer_is_passed_on(tmp_path: Path) -> None:
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


def test_extra_files_replace_files_of_the_same_name(tmp_path: Path) -> None:
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
