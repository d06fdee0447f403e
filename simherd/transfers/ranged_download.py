"""One large file, fetched in several parts at a time, and gone on with by a later call."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from simherd.errors import TransferError
from simherd.transfers import signed_url

if TYPE_CHECKING:
    from pathlib import Path

    from simherd.transfers.signed_url import Progress, RemoteInfo

#: Bytes of each part; what is lost of one that broke off.
PART_BYTES = 8 * 1024**2
#: Parts that are fetched at one time.
WORKERS = 4


def download(url: str, target: Path, progress: Progress | None = None) -> None:
    """GET into `target`, in several parts at a time; what an earlier call got is not fetched again.

    Args:
        url: a signed URL.
        target: the file to write; it appears when it is whole. Until then its parts are in
            `target`.part.
        progress: called with the bytes that are there and the size of all.

    Raises:
        TransferError: it could not be fetched whole; the next call continues.
    """
    Fetch(url, target, progress or (lambda _have, _size: None)).run()


class Fetch:
    """A download into `target`.part, beside which `target`.part.json says which parts are there."""

    def __init__(self, url: str, target: Path, progress: Progress) -> None:
        self._url, self._target, self._progress = url, target, progress
        self._part = target.with_name(f"{target.name}.part")
        self._notes = target.with_name(f"{target.name}.part.json")
        self._lock = threading.Lock()
        self._give_up = threading.Event()
        self._done: set[int] = set()
        self._have = 0

    def run(self) -> None:
        """Fetch what is missing. Raises TransferError."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        info = signed_url.remote_info(self._url)
        if info.in_parts and info.size > PART_BYTES:
            self._in_parts(info)
        else:
            self._in_one()
        self._part.replace(self._target)
        self._notes.unlink(missing_ok=True)

    def _in_one(self) -> None:
        def attempt() -> None:
            with (
                signed_url.client().stream("GET", self._url) as response,
                self._part.open("wb") as writer,
            ):
                signed_url.check(response)
                size, have = int(response.headers.get("content-length") or 0), 0
                for chunk in response.iter_bytes(signed_url.CHUNK):
                    have += writer.write(chunk)
                    self._progress(have, size)

        signed_url.retried(attempt, "The download")

    def _in_parts(self, info: RemoteInfo) -> None:
        self._recall(info)
        missing = [n for n in range(-(-info.size // PART_BYTES)) if n not in self._done]
        self._have = sum(_length(n, info.size) for n in self._done)
        self._progress(self._have, info.size)
        descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(descriptor, info.size)
            with ThreadPoolExecutor(WORKERS, "download") as pool:
                started = [pool.submit(self._fetch, n, info, descriptor) for n in missing]
                try:
                    wait(started, return_when=FIRST_EXCEPTION)
                finally:
                    # Ctrl-C, or a part that cannot be had: the others need not go on.
                    self._give_up.set()
                    pool.shutdown(cancel_futures=True)
            for part in started:
                if not part.cancelled():
                    part.result()
        finally:
            os.close(descriptor)
        if signed_url.remote_info(self._url).etag != info.etag:
            self._forget()
            raise TransferError("The file was replaced while it was fetched. Download it again.")

    def _fetch(self, number: int, info: RemoteInfo, descriptor: int) -> None:
        at = number * PART_BYTES
        for data in signed_url.pieces(self._url, at, _length(number, info.size)):
            if self._give_up.is_set():
                return
            os.pwrite(descriptor, data, at)
            at += len(data)
            with self._lock:
                self._have += len(data)
                self._progress(self._have, info.size)
        with self._lock:
            self._done.add(number)
            self._note(info)

    def _recall(self, info: RemoteInfo) -> None:
        """What an earlier call got of the very same file."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(self._notes.read_text())
            same = (noted["etag"], noted["size"]) == (info.etag, info.size)
            if info.etag and same and self._part.stat().st_size == info.size:
                self._done = {int(n) for n in noted["done"]}
                return
        self._forget()

    def _note(self, info: RemoteInfo) -> None:
        new = self._notes.with_suffix(".new")
        notes = {"etag": info.etag, "size": info.size, "done": sorted(self._done)}
        new.write_text(json.dumps(notes))
        new.replace(self._notes)

    def _forget(self) -> None:
        self._done.clear()
        self._part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)


def _length(number: int, size: int) -> int:
    return min(PART_BYTES, size - number * PART_BYTES)
