"""What the server moves for a user in the background: a file from a URL into the storage, or a
stored file to URLs of another storage."""

from __future__ import annotations

from enum import Enum


class TransferKind(str, Enum):
    """Which way the bytes go."""

    FETCH = "fetch"
    EXPORT = "export"

    def __str__(self) -> str:
        return self.value


class TransferState(str, Enum):
    """How far a transfer is. A large one waits for its next turn now and then."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


#: The states of a transfer that is over.
ENDED = frozenset({TransferState.DONE, TransferState.FAILED})
