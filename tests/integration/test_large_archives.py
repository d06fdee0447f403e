"""Archives that are large, or drawn at random: from strangers, and of outputs."""

from __future__ import annotations

import os
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simherd.contract.archive import ArchiveLimits, ArchiveRejected, unpack
from tests.support.archives import FOLDER, archive_of, file, link, pack, tree
from tests.unit.executor.test_archive import refused


@pytest.mark.fault("B28")
def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, file("zeros", bytes(120 * 1024**2)))
    assert "times its size" in refused(archive, tmp_path).rule


@pytest.mark.fault("B31")
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


@pytest.mark.fault("B31")
def test_zip64_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "in.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for n in range(70_000):
            zipped.writestr(zipfile.ZipInfo(f"{n}"), b"")
    assert "entries" in refused(archive, tmp_path, ArchiveLimits(entries=69_999)).rule
    with archive.open("rb") as opened:
        opened.seek(-22, os.SEEK_END)
        assert opened.read()[8:10] == b"\xff\xff"


@pytest.mark.fault("B29")
@pytest.mark.parametrize("said", [None, 1])
def test_a_million_empty_files_are_refused_at_once(tmp_path: Path, said: int | None) -> None:
    """All with one local header; the end of the archive may say that there are fewer of them."""
    count = 1_000_000 if said is None else ArchiveLimits().entries + 1
    entry = struct.Struct("<4s6H3L5H2L")
    directory = bytearray()
    for number in range(count):
        name = b"%x" % number
        fields = (20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0)
        directory += entry.pack(b"PK\1\2", *fields) + name
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    at = len(local)
    end64 = struct.pack(
        *("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0),
        *(said or count, said or count, len(directory), at),
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at + len(directory), 1)
    few = 0xFFFF if said is None else said
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, few, few, len(directory), at, 0)
    archive = tmp_path / "in.zip"
    archive.write_bytes(local + directory + end64 + locator + end)
    rule = refused(archive, tmp_path).rule
    assert said is not None or "more than 200000 entries" in rule


NAME = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", ".."))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.lists(NAME, min_size=1, max_size=4).map("/".join), st.binary()))
def test_a_packed_tree_unpacks_unchanged(files: dict[str, bytes]) -> None:
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
