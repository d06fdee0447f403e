"""Background transfers for users: from a URL into the storage, or to URLs of another storage."""

from __future__ import annotations

from enum import Enum


class TransferKind(str, Enum):
    """The direction of a transfer."""

    FETCH = "fetch"
    EXPORT = "export"

    def __str__(self) -> str:
        return self.value


class TransferState(str, Enum):
    """The state of a transfer. A large one waits for its next turn now and then."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


#: The final states.
ENDED = frozenset({TransferState.DONE, TransferState.FAILED})
