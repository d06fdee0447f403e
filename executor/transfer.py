"""Moving an attempt's archives over signed URLs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Bytes read or written at a time.
_CHUNK = 1024 * 1024
#: Seconds between two tries; doubles up to the second one.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 20.0
#: How often a transfer is tried: with the waits above, about two minutes of a storage that
#: is down.
_TRIES = 10


def open_client() -> httpx.Client:
    """Connections for all transfers of an agent: loading the CA certificates takes 20 ms."""
    return httpx.Client(
        timeout=httpx.Timeout(60, connect=5), follow_redirects=False, trust_env=False
    )


class TransferFailed(Exception):
    """The storage refused, or stayed out of reach."""


class Transfer:
    """Downloads and uploads with retries. `pause` waits, and raises to give up early."""

    def __init__(self, client: httpx.Client, pause: Callable[[float], None]) -> None:
        self._client = client
        self._pause = pause

    def paused_by(self, pause: Callable[[float], None]) -> Transfer:
        """The same connections with another way to give up."""
        return Transfer(self._client, pause)

    def download(self, url: str, into: Path) -> int:
        """Fetch an object into a file; answers its size in bytes.

        Raises:
            TransferFailed: it is not there, or could not be had.
        """
        return self._again("download", lambda: self._get(url, into))

    def upload(self, url: str, source: Path, size: int) -> None:
        """Store a file, whole.

        Raises:
            TransferFailed: it was refused, or could not be stored.
        """

        def put() -> int:
            with source.open("rb") as file:
                answer = self._client.put(
                    url,
                    content=_chunks(file.read),
                    headers={
                        "Content-Length": str(size),
                        "Content-Type": "application/octet-stream",
                    },
                )
            _accept(answer)
            return size

        self._again("upload", put)

    def stored_size(self, url: str) -> int:
        """The size of a stored object, by reading its first byte.

        Raises:
            TransferFailed: it is not there, or does not say its size.
        """

        def probe() -> int:
            answer = self._client.get(url, headers={"Range": "bytes=0-0"})
            _accept(answer)
            total = answer.headers.get("content-range", "").rpartition("/")[2]
            if not total.isdigit():
                raise TransferFailed("the storage does not say the object's size")
            return int(total)

        return self._again("check", probe)

    def _get(self, url: str, into: Path) -> int:
        with self._client.stream("GET", url) as answer:
            if answer.status_code >= 400:
                answer.read()
            _accept(answer)
            size = 0
            with into.open("wb") as file:
                for chunk in answer.iter_bytes(_CHUNK):
                    file.write(chunk)
                    size += len(chunk)
                    self._pause(0)
        expected = answer.headers.get("content-length")
        if expected is not None and int(expected) != size:
            raise httpx.ReadError(f"{size} of {expected} bytes came")
        return size

    def _again(self, what: str, attempt: Callable[[], int]) -> int:
        wait = _FIRST_WAIT_S
        for left in reversed(range(_TRIES)):
            try:
                return attempt()
            except (httpx.TransportError, _Passing) as error:
                if left == 0:
                    raise TransferFailed(f"{what}: {error}") from error
            self._pause(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
        raise AssertionError("unreachable")


class _Passing(Exception):
    """An answer after which another try may succeed."""


def _accept(answer: httpx.Response) -> None:
    if answer.status_code in {408, 429} or answer.status_code >= 500:
        raise _Passing(f"the storage answered {answer.status_code}")
    if answer.status_code >= 300:
        raise TransferFailed(f"the storage answered {answer.status_code}: {answer.text[:200]}")


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(_CHUNK):
        yield chunk
