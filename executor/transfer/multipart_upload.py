"""Uploading an archive while it is made, in parts that stay in memory until they are stored."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from executor.transfer.client import TransferClient, TransferFailed
from simherd.contract.upload_grant import MOST_PARTS, Grant, part_size
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from collections.abc import Callable

#: Parts that are sent at one time; one more is being filled.
_PARALLEL = 3


class MultipartUpload:
    """A file to write to. What fits in one part is stored with one PUT, more in parts. Nothing is
    written to disk; a part is sent again from memory."""

    def __init__(
        self,
        transfer: TransferClient,
        grant: Grant,
        name: str,
        put_url: str,
        begun: Callable[[str], None],
    ) -> None:
        """`begun` is called with the id of a multipart upload before its first part is sent."""
        self._name = name
        self._transfer = transfer
        self._grant = grant
        self._put_url = put_url
        self._begun = begun
        self._pool = ThreadPoolExecutor(_PARALLEL, "upload")
        self._free_senders = threading.BoundedSemaphore(_PARALLEL)
        self._held = bytearray()
        self._id: str | None = None
        self._parts: dict[int, Future[str]] = {}

    def write(self, data: bytes) -> int:
        """Take bytes; wait while too many parts are being sent. Raises TransferFailed."""
        self._transfer.check()
        left = memoryview(data)
        while left:
            room = part_size(len(self._parts) + 1) - len(self._held)
            self._held += left[:room]
            left = left[room:]
            if len(self._held) == part_size(len(self._parts) + 1):
                self._send_part()
        return len(data)

    def finish(self) -> int:
        """Send the rest and complete the object; return its stored size in bytes. Raises
        TransferFailed."""
        if self._id is None:
            self._transfer.put(self._grant, self._name, self._put_url, bytes(self._held))
            return self._transfer.stored_size(self._grant, self._name)
        if self._held:
            self._send_part()
        wait(self._parts.values(), return_when=FIRST_EXCEPTION)
        self._raise_failure()
        parts = [(number, part.result()) for number, part in self._parts.items()]
        return self._transfer.complete(self._grant, self._name, self._id, parts)

    def close(self) -> None:
        """Drop what waits to be sent, and join the threads."""
        for part in self._parts.values():
            part.cancel()
        self._pool.shutdown()

    def _send_part(self) -> None:
        self._raise_failure()
        number = len(self._parts) + 1
        if number > MOST_PARTS:
            raise TransferFailed(f"the outputs are larger than {MOST_PARTS} parts")
        if self._id is None:
            self._id = self._transfer.begin(self._grant, self._name)
            self._begun(self._id)
        while not self._free_senders.acquire(timeout=1):
            self._transfer.check()
        data, self._held = bytes(self._held), bytearray()
        self._parts[number] = self._pool.submit(in_context(self._store), self._id, number, data)

    def _store(self, upload: str, number: int, data: bytes) -> str:
        try:
            return self._transfer.put_part(self._grant, self._name, upload, number, data)
        finally:
            self._free_senders.release()

    def _raise_failure(self) -> None:
        for part in self._parts.values():
            if part.done() and not part.cancelled():
                part.result()
