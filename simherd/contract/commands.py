"""What reaches an executor's inbox: pushed by the scheduler, never polled for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum

from simherd.contract.outcome import Cause


class Order(str, Enum):
    """What the executor is to do."""

    #: Stop the attempt for the cause that is given.
    STOP = "stop"
    #: The attempt's deadline is the one that is given; with `cause` COST_LIMIT, the end of its
    #: money is.
    DEADLINE = "deadline"
    #: Claim nothing more; `attempt` is empty.
    DRAIN = "drain"
    #: Stop everything, and end: the machine belongs to the group no more.
    LEAVE = "leave"
    #: Drop what was fetched ahead for the attempt.
    UNSTAGE = "unstage"
    #: Relay the attempt's log for a while.
    WATCH_LOG = "watch_log"


@dataclass(frozen=True)
class Message:
    """One order about one attempt.

    `deadline_at` is in seconds since the epoch; `discard` comes with STOP: nobody wants outputs.
    """

    order: Order
    attempt: str
    cause: Cause | None = None
    deadline_at: float | None = None
    discard: bool = False

    def encode(self) -> str:
        """The JSON that the inbox carries."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Message:
        """Read what `encode` wrote.

        Raises:
            ValueError: it is not such a message.
        """
        try:
            raw = json.loads(text)
            cause = raw.get("cause")
            return cls(
                Order(raw["order"]),
                raw["attempt"],
                Cause(cause) if cause else None,
                raw.get("deadline_at"),
                bool(raw.get("discard")),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an inbox message: {error}") from error
