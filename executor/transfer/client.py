"""Transfers of an attempt's bytes over signed URLs, which the scheduler gives out."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from executor.observability import table
from executor.observability.instruments import inc
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from simherd.contract.upload_grant import Grant

T = TypeVar("T")

#: Bytes read or written at a time.
_CHUNK = 1024 * 1024
_PIECE = 256 * 1024
_BACKOFF = Backoff(0.5, 20.0)
#: How often a transfer is tried: with the waits above, about two minutes of a storage that
#: is down.
_TRIES = 10
_FORBIDDEN = 403


def open_client() -> httpx.Client:
    """Return the connections for all transfers: loading the CA certificates takes 20 ms."""
    return httpx.Client(
        timeout=httpx.Timeout(60, connect=5), follow_redirects=False, trust_env=False
    )


class TransferFailed(Exception):
    """The storage refused, or stayed unavailable."""


class TransferRefused(TransferFailed):
    """The storage or the scheduler refused the request."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(
            f"the storage responded with {response.status_code}: {response.text[:200]}"
        )
        self.status = response.status_code


class ObjectChanged(TransferFailed):
    """The stored object is not the one that was there when the task was submitted."""


class TransferClient:
    """Downloads and uploads with retries. `pause` waits, and raises to give up early."""

    def __init__(self, client: httpx.Client, pause: Callable[[float], None]) -> None:
        self._client = client
        self._pause = pause

    def download(self, url: str, into: Path, size: int | None = None) -> int:
        """Fetch an object into a file; return its size in bytes.

        Args:
            url: the object's signed URL.
            into: the file.
            size: the bytes that it must have; None means any number.

        Raises:
            ObjectChanged: it has another size. Nothing beyond `size` was written.
            TransferFailed: it does not exist, or could not be fetched.
        """
        return self._retry("download", lambda: self._get(url, into, size))

    def check(self) -> None:
        """Raise what `pause` raises when the transfer is to be given up."""
        self._pause(0)

    def put(self, grant: Grant, name: str, url: str, data: bytes) -> None:
        """Store a whole object.

        A signed URL may have expired while the task ran: then a new one is requested once from
        the scheduler, by the object's `name`.

        Raises:
            TransferFailed: it was refused, or could not be stored.
        """
        try:
            self._retry("upload", lambda: self._put(url, data))
        except TransferRefused as error:
            if error.status != _FORBIDDEN:
                raise
            fresh = self.urls(grant, [name])[name]
            self._retry("upload", lambda: self._put(fresh, data))

    def urls(self, grant: Grant, names: list[str]) -> dict[str, str]:
        """Return the signed URLs to store whole objects at, by name. Raises TransferFailed."""
        return dict(self._call(grant, "urls", {"objects": names}))

    def put_part(self, grant: Grant, name: str, upload: str, number: int, data: bytes) -> str:
        """Store one part; return its ETag.
        Raises TransferFailed: it was refused, or could not be stored."""

        def put() -> str:
            # A new URL for each try: after an outage an earlier one may have expired.
            url = self._call(grant, "part", {"object": name, "upload": upload, "number": number})[
                "url"
            ]
            return str(self._put(url, data).headers["etag"])

        return self._retry("upload", put)

    def begin(self, grant: Grant, name: str) -> str:
        """Start a multipart upload; return its id. Raises TransferFailed."""
        return str(self._call(grant, "begin", {"object": name})["upload"])

    def complete(self, grant: Grant, name: str, upload: str, parts: list[tuple[int, str]]) -> int:
        """Make an object of the parts; return its stored size in bytes. Raises TransferFailed."""
        body = {"object": name, "upload": upload, "parts": parts}
        return int(self._call(grant, "complete", body)["size"])

    def abort(self, grant: Grant, name: str, upload: str) -> None:
        """Abort a multipart upload. Raises TransferFailed."""
        self._call(grant, "abort", {"object": name, "upload": upload})

    def drop(self, grant: Grant, name: str) -> None:
        """Delete a slice that was not fetched. Raises TransferFailed."""
        self._call(grant, "drop", {"object": name})

    def stored_size(self, grant: Grant, name: str) -> int:
        """Return the size of a stored object in bytes. Raises TransferFailed: it does not exist."""
        return int(self._call(grant, "stored", {"object": name})["size"])

    def save_checkpoint(self, grant: Grant, files: list[dict[str, Any]]) -> int:
        """Register a checkpoint with the scheduler; return its number. Raises TransferFailed."""
        return int(self._call(grant, "checkpoint", {"files": files})["generation"])

    def checkpoints(self, grant: Grant) -> list[dict[str, Any]]:
        """Return the checkpoints to continue from, newest first. Raises TransferFailed."""
        return list(self._call(grant, "checkpoints", {}))

    def _call(self, grant: Grant, verb: str, body: dict[str, Any]) -> Any:
        def post() -> Any:
            response = self._client.post(
                f"{grant.url}/{verb}", json=body, headers={"Authorization": f"Bearer {grant.token}"}
            )
            _check(response)
            return response.json()

        return self._retry(verb, post)

    def _put(self, url: str, data: bytes) -> httpx.Response:
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        response = self._client.put(
            url,
            content=self._pieces(data),
            headers={
                "Content-Length": str(len(data)),
                "Content-Type": "application/octet-stream",
                "Content-MD5": digest,
            },
        )
        _check(response)
        return response

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Return a body in pieces, since the HTTP library copies the rest after each send."""
        for start in range(0, len(data), _PIECE):
            self._pause(0)
            piece = data[start : start + _PIECE]
            inc(table.UPLOADED, by=len(piece))
            yield piece

    def _get(self, url: str, into: Path, expected: int | None) -> int:
        with self._client.stream("GET", url) as response:
            if response.status_code >= 400:
                response.read()
            _check(response)
            size = 0
            with into.open("wb") as file:
                for chunk in response.iter_bytes(_CHUNK):
                    if expected is not None and size + len(chunk) > expected:
                        raise ObjectChanged(
                            f"it has more than the {expected} bytes of its submission"
                        )
                    file.write(chunk)
                    size += len(chunk)
                    inc(table.DOWNLOADED, by=len(chunk))
                    self._pause(0)
        announced = response.headers.get("content-length")
        if announced is not None and int(announced) != size:
            raise httpx.ReadError(f"{size} of {announced} bytes came")
        if expected is not None and size != expected:
            raise ObjectChanged(
                f"it has {size} bytes, and had {expected} when the task was submitted"
            )
        return size

    def _retry(self, what: str, attempt: Callable[[], T]) -> T:
        for failures in range(1, _TRIES + 1):
            try:
                return attempt()
            except (httpx.TransportError, _Temporary) as error:
                if failures == _TRIES:
                    raise TransferFailed(f"{what}: {error}") from error
            inc(table.RETRIES)
            self._pause(_BACKOFF.after(failures))
        raise AssertionError("unreachable")


class _Temporary(Exception):
    """A response after which another try may succeed."""


def _check(response: httpx.Response) -> None:
    if response.status_code in {408, 429} or response.status_code >= 500:
        raise _Temporary(f"the storage responded with {response.status_code}")
    if response.status_code >= 300:
        raise TransferRefused(response)
