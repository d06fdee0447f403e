"""Moving an attempt's bytes over signed URLs, and asking the scheduler for these."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from executor.observability import table
from executor.observability.instruments import inc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from simherd.contract.upload_grant import Grant

T = TypeVar("T")

#: Bytes read or written at a time.
_CHUNK = 1024 * 1024
_PIECE = 256 * 1024
#: Seconds between two tries; doubles up to the second one.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 20.0
#: How often a transfer is tried: with the waits above, about two minutes of a storage that
#: is down.
_TRIES = 10
_FORBIDDEN = 403


def open_client() -> httpx.Client:
    """Connections for all transfers of an agent: loading the CA certificates takes 20 ms."""
    return httpx.Client(
        timeout=httpx.Timeout(60, connect=5), follow_redirects=False, trust_env=False
    )


class TransferFailed(Exception):
    """The storage refused, or stayed out of reach."""


class TransferRefused(TransferFailed):
    """The storage, or the scheduler, said no."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"the storage answered {answer.status_code}: {answer.text[:200]}")
        self.status = answer.status_code


class ObjectChanged(TransferFailed):
    """What is stored is not what was there when the task was submitted."""


class TransferClient:
    """Downloads and uploads with retries. `pause` waits, and raises to give up early."""

    def __init__(self, client: httpx.Client, pause: Callable[[float], None]) -> None:
        self._client = client
        self._pause = pause

    def download(self, url: str, into: Path, size: int | None = None) -> int:
        """Fetch an object into a file; returns its size in bytes.

        Args:
            url: where it is.
            into: the file.
            size: the bytes that it must have; None: any number.

        Raises:
            Changed: it has another size. Nothing beyond `size` was written.
            TransferFailed: it is not there, or could not be had.
        """
        return self._again("download", lambda: self._get(url, into, size))

    def check(self) -> None:
        """Raise when it is to be given up."""
        self._pause(0)

    def put(self, grant: Grant, name: str, url: str, data: bytes) -> None:
        """Store a whole object.

        A signed URL may have outlived itself while the task ran: then the scheduler is asked for
        a new one, once, by the object's `name`.

        Raises:
            TransferFailed: it was refused, or could not be stored.
        """
        try:
            self._again("upload", lambda: self._put(url, data))
        except TransferRefused as error:
            if error.status != _FORBIDDEN:
                raise
            fresh = self.urls(grant, [name])[name]
            self._again("upload", lambda: self._put(fresh, data))

    def urls(self, grant: Grant, names: list[str]) -> dict[str, str]:
        """Where to store these objects whole. Raises TransferFailed."""
        return dict(self._ask(grant, "urls", {"objects": names}))

    def put_part(self, grant: Grant, name: str, upload: str, number: int, data: bytes) -> str:
        """Store one part; answers the storage's word for it.

        Raises:
            TransferFailed: it was refused, or could not be stored.
        """

        def put() -> str:
            # Signed anew for each try: one that waited out an outage may be too old.
            url = self._ask(grant, "part", {"object": name, "upload": upload, "number": number})[
                "url"
            ]
            return str(self._put(url, data).headers["etag"])

        return self._again("upload", put)

    def begin(self, grant: Grant, name: str) -> str:
        """Begin an upload in parts; answers its id. Raises TransferFailed."""
        return str(self._ask(grant, "begin", {"object": name})["upload"])

    def complete(self, grant: Grant, name: str, upload: str, parts: list[tuple[int, str]]) -> int:
        """Make an object of the parts; answers its stored size, bytes. Raises TransferFailed."""
        body = {"object": name, "upload": upload, "parts": parts}
        return int(self._ask(grant, "complete", body)["size"])

    def abort(self, grant: Grant, name: str, upload: str) -> None:
        """Have the storage forget an upload in parts. Raises TransferFailed."""
        self._ask(grant, "abort", {"object": name, "upload": upload})

    def drop(self, grant: Grant, name: str) -> None:
        """Delete a slice that nobody took away. Raises TransferFailed."""
        self._ask(grant, "drop", {"object": name})

    def stored_size(self, grant: Grant, name: str) -> int:
        """The size of an object as it is stored, bytes.

        Raises:
            TransferFailed: it is not there.
        """
        return int(self._ask(grant, "stored", {"object": name})["size"])

    def save_checkpoint(self, grant: Grant, files: list[dict[str, Any]]) -> int:
        """Have the scheduler note a generation; answers its number. Raises TransferFailed."""
        return int(self._ask(grant, "checkpoint", {"files": files})["generation"])

    def checkpoints(self, grant: Grant) -> list[dict[str, Any]]:
        """The generations to go on from, newest first. Raises TransferFailed."""
        found: list[dict[str, Any]] = self._ask(grant, "checkpoints", {})
        return found

    def _ask(self, grant: Grant, verb: str, body: dict[str, Any]) -> Any:
        def post() -> Any:
            answer = self._client.post(
                f"{grant.url}/{verb}", json=body, headers={"Authorization": f"Bearer {grant.token}"}
            )
            _accept(answer)
            return answer.json()

        return self._again(verb, post)

    def _put(self, url: str, data: bytes) -> httpx.Response:
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        answer = self._client.put(
            url,
            content=self._pieces(data),
            headers={
                "Content-Length": str(len(data)),
                "Content-Type": "application/octet-stream",
                "Content-MD5": digest,
            },
        )
        _accept(answer)
        return answer

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """A body in pieces: a large one is copied again after each send by the HTTP library."""
        for start in range(0, len(data), _PIECE):
            self._pause(0)
            piece = data[start : start + _PIECE]
            inc(table.UPLOADED, by=len(piece))
            yield piece

    def _get(self, url: str, into: Path, wanted: int | None) -> int:
        with self._client.stream("GET", url) as answer:
            if answer.status_code >= 400:
                answer.read()
            _accept(answer)
            size = 0
            with into.open("wb") as file:
                for chunk in answer.iter_bytes(_CHUNK):
                    if wanted is not None and size + len(chunk) > wanted:
                        raise ObjectChanged(
                            f"it has more than the {wanted} bytes of its submission"
                        )
                    file.write(chunk)
                    size += len(chunk)
                    inc(table.DOWNLOADED, by=len(chunk))
                    self._pause(0)
        expected = answer.headers.get("content-length")
        if expected is not None and int(expected) != size:
            raise httpx.ReadError(f"{size} of {expected} bytes came")
        if wanted is not None and size != wanted:
            raise ObjectChanged(
                f"it has {size} bytes, and had {wanted} when the task was submitted"
            )
        return size

    def _again(self, what: str, attempt: Callable[[], T]) -> T:
        wait = _FIRST_WAIT_S
        for left in reversed(range(_TRIES)):
            try:
                return attempt()
            except (httpx.TransportError, _Passing) as error:
                if left == 0:
                    raise TransferFailed(f"{what}: {error}") from error
            inc(table.RETRIES)
            self._pause(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)
        raise AssertionError("unreachable")


class _Passing(Exception):
    """An answer after which another try may succeed."""


def _accept(answer: httpx.Response) -> None:
    if answer.status_code in {408, 429} or answer.status_code >= 500:
        raise _Passing(f"the storage answered {answer.status_code}")
    if answer.status_code >= 300:
        raise TransferRefused(answer)
