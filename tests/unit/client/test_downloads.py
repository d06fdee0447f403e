"""Downloads from a server that breaks off, lies, or changes its mind."""

from __future__ import annotations

import io
import os
import random
import re
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar

import pytest

from simherd.errors import InvalidInput, TransferError
from simherd.runtime.backoff import Backoff
from simherd.transfers import ranged_download, signed_url
from simherd.transfers.zip_members import MemberDownload, choose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = random.Random(1).randbytes(3_000_000)


class Storage(BaseHTTPRequestHandler):
    """Serves one object, with whatever trouble a test wants."""

    protocol_version = "HTTP/1.1"
    content: ClassVar[bytes] = DATA
    etag: ClassVar[str] = '"one"'
    ranges: ClassVar[bool] = True
    #: Requests that are cut after so many bytes, one after the other.
    cuts: ClassVar[list[int]] = []
    asked: ClassVar[list[str]] = []
    statuses: ClassVar[list[int]] = []
    lock = threading.Lock()

    def do_GET(self) -> None:
        kind = type(self)
        with self.lock:
            wanted = self.headers.get("Range", "")
            kind.asked.append(wanted)
            status = kind.statuses.pop(0) if kind.statuses else 0
            cut = kind.cuts.pop(0) if kind.cuts and wanted != "bytes=0-0" else None
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
        body, code = kind.content, 200
        if found and kind.ranges:
            first, last = int(found[1]), int(found[2] or len(kind.content) - 1)
            body, code = kind.content[first : last + 1], 206
        self.send_response(code)
        self.send_header("ETag", kind.etag)
        self.send_header("Content-Length", str(len(body)))
        if code == 206:
            whole = f"bytes {found[1]}-{found[2]}/{len(kind.content)}" if found else ""
            self.send_header("Content-Range", whole)
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in {
        **{"content": DATA, "etag": '"one"', "ranges": True},
        **{"cuts": [], "asked": [], "statuses": []},
    }.items():
        setattr(Storage, name, value)
    monkeypatch.setattr(ranged_download, "PART_BYTES", 500_000)
    monkeypatch.setattr(signed_url, "BACKOFF", Backoff(0.001, 0.1))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/object"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_large_file_comes_in_parts_with_one_progress(storage: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    ranged_download.download(storage, tmp_path / "a", lambda have, size: seen.append((have, size)))
    assert (tmp_path / "a").read_bytes() == DATA
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert len([r for r in Storage.asked if r not in {"", "bytes=0-0"}]) == 6
    assert [have for have, _ in seen] == sorted(have for have, _ in seen)
    assert seen[-1] == (len(DATA), len(DATA))


def test_a_broken_part_resumes_at_its_offset(storage: str, tmp_path: Path) -> None:
    Storage.cuts = [100_000, 1, 400_000]
    Storage.statuses = [503, 0, 429, 500]
    ranged_download.download(storage, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA


def test_another_call_fetches_only_what_is_missing(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One after the other: two are there when the third is refused.
    monkeypatch.setattr(ranged_download, "WORKERS", 1)
    Storage.statuses = [0, 0, 0, 404]
    with pytest.raises(TransferError, match="404"):
        ranged_download.download(storage, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    Storage.asked.clear()
    ranged_download.download(storage, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    # The worker may have begun the piece after the refused one before it was stopped.
    assert len([r for r in Storage.asked if r != "bytes=0-0"]) in (3, 4)


def test_a_file_that_was_replaced_meanwhile_is_fetched_again(storage: str, tmp_path: Path) -> None:
    Storage.statuses = [0, 0, 0, 404]
    with pytest.raises(TransferError):
        ranged_download.download(storage, tmp_path / "a")
    Storage.content, Storage.etag = DATA[::-1], '"two"'
    ranged_download.download(storage, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA[::-1]


def test_a_server_without_ranges_serves_it_whole(storage: str, tmp_path: Path) -> None:
    Storage.ranges = False
    ranged_download.download(storage, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    with pytest.raises(TransferError, match="parts of a file"), signed_url.remote_file(storage):
        pass


@pytest.mark.parametrize("size", [0, 1, 499_999, 500_000, 500_001])
def test_a_file_of_any_size_arrives(storage: str, tmp_path: Path, size: int) -> None:
    Storage.content = DATA[:size]
    ranged_download.download(storage, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA[:size]


def test_a_server_that_stays_unavailable_is_given_up(storage: str, tmp_path: Path) -> None:
    Storage.statuses = [503] * 100
    with pytest.raises(TransferError, match="503"):
        ranged_download.download(storage, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def _archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data, mode in (
            ("artifacts/", b"", stat.S_IFDIR | 0o755),
            ("artifacts/stdout.txt", b"hello\n", stat.S_IFREG | 0o644),
            ("artifacts/vtk/a_1.vtk", DATA[:200_000], stat.S_IFREG | 0o640),
            ("artifacts/vtk/a_2.vtk", b"a" * 300_000, stat.S_IFREG | 0o444),
            ("artifacts/run.sh", b"#!/bin/sh\n", stat.S_IFREG | 0o755),
            ("artifacts/latest", b"vtk/a_2.vtk", stat.S_IFLNK | 0o777),
            ("artifacts/bad", b"../../etc/passwd", stat.S_IFLNK | 0o777),
        ):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            info.compress_type = zipfile.ZIP_STORED if "_1" in name else zipfile.ZIP_DEFLATED
            packed.writestr(info, data)
    return buffer.getvalue()


def _members(url: str, target: Path, *wanted: str) -> None:
    MemberDownload(url, "artifacts", target, lambda _have, _size: None).run(list(wanted))


def test_members_come_by_name_folder_and_pattern(storage: str, tmp_path: Path) -> None:
    Storage.content = _archive()
    _members(storage, tmp_path, "*.sh", "vtk", "stdout.txt", "latest")
    assert (tmp_path / "vtk/a_1.vtk").read_bytes() == DATA[:200_000]
    assert (tmp_path / "latest").readlink().as_posix() == "vtk/a_2.vtk"
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*.*") if p.is_file()}
    assert modes == {"stdout.txt": 0o644, "a_1.vtk": 0o640, "a_2.vtk": 0o444, "run.sh": 0o755}
    Storage.asked.clear()
    _members(storage, tmp_path, "vtk/*_?.vtk")
    # Nothing but the directory: what is there is whole.
    assert sum(_length(r) for r in Storage.asked) < 2 * 1024 * 1024
    os.truncate(tmp_path / "vtk/a_1.vtk", 10)
    _members(storage, tmp_path, "vtk/*_?.vtk")
    assert (tmp_path / "vtk/a_1.vtk").read_bytes() == DATA[:200_000]


def _length(asked: str) -> int:
    first, last = asked.removeprefix("bytes=").split("-")
    return int(last) - int(first) + 1


def test_a_name_that_is_not_there_fetches_nothing(storage: str, tmp_path: Path) -> None:
    Storage.content = _archive()
    with pytest.raises(InvalidInput, match=r"'\*\.png', 'nothing'"):
        _members(storage, tmp_path, "stdout.txt", "*.png", "nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_outside_is_refused(storage: str, tmp_path: Path) -> None:
    Storage.content = _archive()
    with pytest.raises(TransferError, match="bad is a symlink that leads elsewhere"):
        _members(storage, tmp_path, "bad")
    assert not (tmp_path / "bad").is_symlink()


@pytest.mark.parametrize(
    "links",
    [{"a/b/c": "../..", "a/b/c/l": "../../.."}, {"a": "b"}, {"a/b": ".", "a/b/c": "../.."}],
)
def test_extraction_does_not_follow_links(
    storage: str, tmp_path: Path, links: dict[str, str]
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, leads_to in links.items():
            info = zipfile.ZipInfo(f"artifacts/{name}")
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            packed.writestr(info, leads_to)
        packed.writestr(f"artifacts/{list(links)[-1]}/evil.txt", "evil")
    Storage.content = buffer.getvalue()
    target = tmp_path / "x/y/z/target"
    with pytest.raises(TransferError, match="below what is not a folder"):
        _members(storage, target, "*evil.txt", *links)
    assert not list(tmp_path.rglob("evil.txt"))
    # Nor through one that was there before.
    target.mkdir(parents=True)
    (target / "vtk").symlink_to(tmp_path)
    Storage.content = _archive()
    with pytest.raises(TransferError, match="is a symlink"):
        _members(storage, target, "vtk")


def test_a_member_that_lies_about_its_size_is_stopped(storage: str, tmp_path: Path) -> None:
    whole = bytearray(_archive())
    at = whole.rfind(b"artifacts/vtk/a_2.vtk")
    # Its unpacked size in the directory, before the name (APPNOTE 4.3.12).
    whole[at - 22 : at - 18] = (10).to_bytes(4, "little")
    Storage.content = bytes(whole)
    with pytest.raises(TransferError, match="larger than it says"):
        _members(storage, tmp_path, "vtk/a_2.vtk")


def test_a_flipped_bit_is_noticed(storage: str, tmp_path: Path) -> None:
    whole = bytearray(_archive())
    whole[whole.find(DATA[:100]) + 50] ^= 1
    Storage.content = bytes(whole)
    with pytest.raises(TransferError, match=r"a_1\.vtk is broken"):
        _members(storage, tmp_path, "vtk/a_1.vtk")
    assert list((tmp_path / "vtk").iterdir()) == []


def test_a_broken_read_inside_an_archive_resumes(storage: str, tmp_path: Path) -> None:
    Storage.content = _archive()
    Storage.cuts = [10, 100, 1000]
    _members(storage, tmp_path, "vtk")
    assert (tmp_path / "vtk/a_2.vtk").read_bytes() == b"a" * 300_000


def test_patterns_choose_in_order_and_once() -> None:
    names = ["a/1.txt", "a/2.txt", "b/1.txt", "odd[1].txt"]
    assert choose(names, ["b", "*/1.txt"]) == ["b/1.txt", "a/1.txt"]
    assert choose(names, ["odd[1].txt"]) == ["odd[1].txt"]
    with pytest.raises(InvalidInput, match="'c/'"):
        choose(names, ["c/"])
