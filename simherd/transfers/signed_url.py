"""Moving files to and from signed URLs, whole or not at all."""

from __future__ import annotations

import functools
import io
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import httpx

from simherd.contract.archive.ranged import RangedFile
from simherd.errors import TransferError
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Progress = Callable[[int, int], None]

T = TypeVar("T")

#: Tries for one piece of a file.
_TRIES = 6
BACKOFF = Backoff(0.2, 10.0)
CHUNK = 1024 * 1024
#: Bytes fetched at a time from inside a remote zip.
_BLOCK = 1024 * 1024
_TIMEOUT = httpx.Timeout(60, connect=10)


@dataclass(frozen=True)
class RemoteInfo:
    """A file at a URL: its bytes, what changes with its content, whether parts of it are served."""

    size: int
    etag: str
    in_parts: bool


def upload(url: str, content: Callable[[], Iterator[bytes]], size: int | None = None) -> None:
    """PUT what `content` yields; a further try calls it again.

    `size`: how many bytes that is, where it is known.

    Raises:
        TransferError: it could not be stored.
    """

    def attempt() -> None:
        check(client().put(url, content=content(), headers=headers))

    headers = {} if size is None else {"Content-Length": str(size)}
    retried(attempt, "The upload")


def remote_info(url: str) -> RemoteInfo:
    """What is at a URL. Raises TransferError."""

    def ask() -> RemoteInfo:
        # Not HEAD: a URL that is signed for GET allows nothing else.
        with client().stream("GET", url, headers={"Range": "bytes=0-0"}) as response:
            if response.status_code == 416:  # empty: it has no first byte
                return RemoteInfo(0, response.headers.get("etag", ""), in_parts=False)
            check(response)
            total = response.headers.get("content-range", "").rpartition("/")[2]
            if response.status_code == 206 and total.isdigit():
                return RemoteInfo(int(total), response.headers.get("etag", ""), in_parts=True)
            size = int(response.headers.get("content-length") or 0)
            return RemoteInfo(size, response.headers.get("etag", ""), in_parts=False)

    return retried(ask, "The download")


def pieces(url: str, first: int, length: int) -> Iterator[bytes]:
    """`length` bytes of a URL from `first` on; goes on where a connection broke.
    Raises TransferError: they could not be had, or are not served in parts."""
    at, end = first, first + length
    tries = _TRIES
    while at < end:
        try:
            headers = {"Range": f"bytes={at}-{end - 1}"}
            with client().stream("GET", url, headers=headers) as response:
                check(response)
                if response.status_code != 206:
                    raise TransferError(
                        "The storage does not serve parts of a file; download all of it."
                    )
                for data in response.iter_bytes(CHUNK):
                    at += len(data)
                    tries = _TRIES
                    yield data
            if at < end:
                raise httpx.ReadError(f"{at - first} of {length} bytes came")
        except (httpx.TransportError, httpx.InvalidURL) as error:
            tries -= 1
            if tries <= 0:
                raise TransferError(f"The download failed: {error}") from error
            time.sleep(BACKOFF.after(_TRIES - tries))


@contextmanager
def remote_file(url: str) -> Iterator[BinaryIO]:
    """A seekable file over ranged reads of a URL.
    Raises TransferError: there is none, or it is not served in parts."""
    info = remote_info(url)
    if info.size and not info.in_parts:
        raise TransferError("The storage does not serve parts of a file; download all of it.")

    def read_at(start: int, length: int) -> bytes:
        return b"".join(pieces(url, start, length))

    with io.BufferedReader(RangedFile(info.size, read_at), _BLOCK) as reader:
        yield reader


def check(response: httpx.Response) -> None:
    """Raise for a refusal: httpx.ReadError where another try may succeed, else TransferError."""
    if response.is_success:
        return
    if response.status_code >= 500 or response.status_code == 429:
        raise httpx.ReadError(f"the storage responded with {response.status_code}")
    raise TransferError(f"The storage refused with {response.status_code}{_reason(response)}")


def _reason(response: httpx.Response) -> str:
    """What the API says about a refusal; S3 says it in XML, or not at all."""
    try:
        return f": {response.json()['detail']}"
    except (httpx.ResponseNotRead, ValueError, KeyError, TypeError):
        return "."


def retried(attempt: Callable[[], T], what: str) -> T:
    """Return what `attempt` returns, after some tries where the network fails."""
    for number in range(_TRIES):
        try:
            return attempt()
        except (httpx.TransportError, httpx.InvalidURL) as error:
            if number == _TRIES - 1 or isinstance(error, httpx.UnsupportedProtocol):
                raise TransferError(f"{what} failed: {error}") from error
            time.sleep(BACKOFF.after(number + 1))
    raise AssertionError("unreachable")


@functools.cache
def client() -> httpx.Client:
    """Connections for every transfer of this program: loading the CA certificates is slow."""
    headers = {"Accept-Encoding": "identity"}
    return httpx.Client(timeout=_TIMEOUT, follow_redirects=True, headers=headers)
