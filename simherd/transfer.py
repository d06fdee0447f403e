"""Moving files to and from signed URLs, whole or not at all."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import httpx

from simherd.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Progress = Callable[[int, int], None]

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

    def attempt(client: httpx.Client) -> None:
        _check(client.put(url, content=content()))

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

    def attempt(client: httpx.Client) -> None:
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {}
        with client.stream("GET", url, headers=headers) as answer:
            _check(answer)
            if answer.status_code != 206:
                have = 0
            size = have + int(answer.headers.get("content-length") or 0)
            with part.open("ab" if have else "wb") as writer:
                for chunk in answer.iter_bytes(_CHUNK):
                    have += writer.write(chunk)
                    if progress:
                        progress(have, size)

    _retried(attempt, "The download")
    part.replace(target)


class RemoteFile(io.RawIOBase):
    """A seekable file over ranged reads of a URL, for a look into a zip without fetching it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.Client(timeout=_TIMEOUT)
        self._at = 0
        self._size = 0
        _retried(self._measure, "The download", self._client)

    def _measure(self, client: httpx.Client) -> None:
        answer = client.get(self._url, headers={"Range": "bytes=0-0"})
        _check(answer)
        whole = answer.headers.get("content-range", "").rpartition("/")[2]
        if answer.status_code != 206 or not whole.isdigit():
            raise TransferError("The storage does not serve parts of a file; download all of it.")
        self._size = int(whole)

    def buffered(self) -> io.BufferedReader:
        """This file, read in blocks."""
        return io.BufferedReader(self, _BLOCK)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        wanted = min(len(view), self._size - self._at)
        if wanted <= 0:
            return 0
        span = f"bytes={self._at}-{self._at + wanted - 1}"

        def attempt(client: httpx.Client) -> None:
            answer = client.get(self._url, headers={"Range": span})
            _check(answer)
            if len(answer.content) != wanted:
                raise httpx.ReadError(f"{span} gave {len(answer.content)} bytes")
            view[:wanted] = answer.content

        _retried(attempt, "The download", self._client)
        self._at += wanted
        return wanted

    def close(self) -> None:
        self._client.close()
        super().close()


def _check(answer: httpx.Response) -> None:
    """Raise for an answer that is none: the worth of trying again differs."""
    if answer.is_success:
        return
    if answer.status_code >= 500 or answer.status_code == 429:
        raise httpx.ReadError(f"the storage answered {answer.status_code}")
    raise TransferError(f"The storage refused with {answer.status_code}.")


def _retried(
    attempt: Callable[[httpx.Client], None], what: str, client: httpx.Client | None = None
) -> None:
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as own:
        for number in range(_TRIES):
            try:
                attempt(client or own)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                if number == _TRIES - 1 or isinstance(error, httpx.UnsupportedProtocol):
                    raise TransferError(f"{what} failed: {error}") from error
                time.sleep(0.2 * 2**number)
            else:
                return
