"""Background transfers for users: from a URL into the storage, or to URLs of another storage."""

from __future__ import annotations

from enum import StrEnum


class TransferKind(StrEnum):
    """The direction of a transfer."""

    FETCH = "fetch"
    EXPORT = "export"


class TransferState(StrEnum):
    """The state of a transfer. A large one waits for its next turn now and then."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


#: The final states.
ENDED = frozenset({TransferState.DONE, TransferState.FAILED})
