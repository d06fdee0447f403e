"""Input folders: what is sent of them, and what is refused before anything is."""

from __future__ import annotations

import io
import os
import socket
import stat
import zipfile
from typing import TYPE_CHECKING

import pytest

from simherd.contract.objects import INPUT_ROOT
from simherd.errors import InvalidInput, TransferError
from simherd.transfers.input_archive import InputEntry, extract_all, scan, zipped

if TYPE_CHECKING:
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return [entry.name for entry in scan(folder)]


def test_a_folder_is_sent_in_a_stable_order_with_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "b" / "empty").mkdir(parents=True)
    (tmp_path / "b" / "z").write_text("1")
    (tmp_path / "a").write_text("2")
    assert names(tmp_path) == ["b/", "a", "b/empty/", "b/z"]


def test_links_inside_stay_links_and_others_become_the_file(tmp_path: Path) -> None:
    folder, outside = tmp_path / "case", tmp_path / "mesh"
    folder.mkdir()
    outside.write_text("mesh")
    (folder / "file").write_text("x")
    (folder / "inside").symlink_to("file")
    (folder / "outside").symlink_to(outside)
    found = {entry.name: entry for entry in scan(folder)}
    assert [found[n].is_link for n in ("file", "inside", "outside")] == [False, True, False]
    assert found["outside"].size == 4


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "there is no folder"),
        ("empty", "has no files. Leave input_dir out"),
        ("folders", "has no files. Leave input_dir out"),
        ("dangling", "'x' cannot be read: No such file"),
        ("fifo", "'x' is not a file; copy what it stands for, or remove it"),
        ("socket", "'x' is not a file; copy what it stands for, or remove it"),
        ("folder link", "'x' is not a file; copy what it stands for, or remove it"),
    ],
)
def test_an_input_that_cannot_be_sent_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, sentence: str
) -> None:
    folder = tmp_path / "case"
    if kind != "missing":
        folder.mkdir()
    if kind == "folders":
        (folder / "x").mkdir()
    elif kind == "dangling":
        (folder / "x").symlink_to(tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(folder / "x")
    elif kind == "socket":
        monkeypatch.chdir(folder)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("x")
    elif kind == "folder link":
        (folder / "x").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match=r"^input_dir: ") as refused:
        scan(folder)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../../b", "a/", "a\0b", "a//../.."])
def test_a_file_of_bytes_has_a_name_inside(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"^files: "):
        InputEntry.of_bytes(name, b"")


def test_the_archive_has_modes_links_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("run.sh")
    seen: list[tuple[int, int]] = []
    entries = [*scan(tmp_path), InputEntry.of_bytes("speed.txt", b"12")]
    data = b"".join(zipped(entries, lambda done, size: seen.append((done, size))))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        modes = {i.filename.removeprefix(f"{INPUT_ROOT}/"): i for i in archive.infolist()}
        assert archive.read(f"{INPUT_ROOT}/speed.txt") == b"12"
        assert archive.read(f"{INPUT_ROOT}/link") == b"run.sh"
    assert modes["run.sh"].external_attr >> 16 == stat.S_IFREG | 0o755
    assert stat.S_ISLNK(modes["link"].external_attr >> 16)
    assert seen[-1][0] == seen[-1][1] == sum(entry.size for entry in entries)


def test_an_archive_replaces_files_but_not_folders(tmp_path: Path) -> None:
    archive = tmp_path / "output.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("artifacts/a/b", "new")
        packed.writestr("artifacts/c", "new")
    target = tmp_path / "target"
    (target / "a").mkdir(parents=True)
    (target / "a" / "b").write_text("old")
    extract_all(archive, target, "artifacts")
    assert [(target / n).read_text() for n in ("a/b", "c")] == ["new", "new"]
    (target / "c").unlink()
    (target / "c").mkdir()
    with pytest.raises(TransferError, match="c is a folder"):
        extract_all(archive, target, "artifacts")
    assert sorted(p.name for p in target.iterdir()) == ["a", "c"]


def test_an_archive_that_leads_elsewhere_writes_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "output.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../evil", "x")
    with pytest.raises(TransferError, match=r"output\.zip"):
        extract_all(archive, tmp_path / "target")
    assert not (tmp_path / "evil").exists()
    assert list((tmp_path / "target").iterdir()) == []
