"""Moving files to and from signed URLs, whole or not at all."""

from __future__ import annotations

import functools
import io
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import httpx

from simherd.contract.archive.ranged import RangedFile
from simherd.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Progress = Callable[[int, int], None]

T = TypeVar("T")

#: Tries for one file; a download goes on where the last one stopped.
_TRIES = 6
_CHUNK = 1024 * 1024
#: Bytes fetched at a time from inside a remote zip.
_BLOCK = 1024 * 1024
_TIMEOUT = httpx.Timeout(60, connect=10)


def upload(url: str, content: Callable[[], Iterator[bytes]]) -> None:
    """PUT what `content` yields; a further try asks it for the bytes anew.

    Raises:
        TransferError: it could not be stored.
    """

    def attempt() -> None:
        _check(_client().put(url, content=content()))

    _retried(attempt, "The upload")


def download(url: str, target: Path, progress: Progress | None = None) -> None:
    """GET into `target`, going on from `target`.part where a connection broke.

    Args:
        url: a signed URL.
        target: the file to write; it appears when it is whole.
        progress: called with the bytes that are there and the size of all.

    Raises:
        TransferError: it could not be fetched whole.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)

    def attempt() -> None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with _client().stream("GET", url, headers=headers) as answer:
            _check(answer)
            if answer.status_code != 206:
                have = 0
            size = have + int(answer.headers.get("content-length") or 0)
            with part.open("ab" if have else "wb") as writer:
                for chunk in answer.iter_bytes(_CHUNK):
                    have += writer.write(chunk)
                    if progress:
                        progress(have, size)

    try:
        _retried(attempt, "The download")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def remote_file(url: str) -> Iterator[BinaryIO]:
    """A seekable file over ranged reads of a URL.

    Raises:
        TransferError: there is none, or it is not served in parts.
    """

    def read_at(start: int, length: int) -> bytes:
        return _retried(lambda: _range(url, start, length), "The download").content

    first = _retried(lambda: _range(url, 0, 1), "The download")
    size = int(first.headers["content-range"].rpartition("/")[2])
    with io.BufferedReader(RangedFile(size, read_at), _BLOCK) as reader:
        yield reader


def _range(url: str, start: int, length: int) -> httpx.Response:
    answer = _client().get(url, headers={"Range": f"bytes={start}-{start + length - 1}"})
    _check(answer)
    if answer.status_code != 206 or not answer.headers.get("content-range", "")[-1:].isdigit():
        raise TransferError("The storage does not serve parts of a file; download all of it.")
    if len(answer.content) != length:
        raise httpx.ReadError(f"{len(answer.content)} of {length} bytes came")
    return answer


def _check(answer: httpx.Response) -> None:
    """Raise for an answer that is none: the worth of trying again differs."""
    if answer.is_success:
        return
    if answer.status_code >= 500 or answer.status_code == 429:
        raise httpx.ReadError(f"the storage answered {answer.status_code}")
    raise TransferError(f"The storage refused with {answer.status_code}.")


def _retried(attempt: Callable[[], T], what: str) -> T:
    for number in range(_TRIES):
        try:
            return attempt()
        except (httpx.TransportError, httpx.InvalidURL) as error:
            if number == _TRIES - 1 or isinstance(error, httpx.UnsupportedProtocol):
                raise TransferError(f"{what} failed: {error}") from error
            time.sleep(0.2 * 2**number)
    raise AssertionError("unreachable")


@functools.cache
def _client() -> httpx.Client:
    """Connections for every transfer of this program: loading the CA certificates is slow."""
    headers = {"Accept-Encoding": "identity"}
    return httpx.Client(timeout=_TIMEOUT, follow_redirects=True, headers=headers)
