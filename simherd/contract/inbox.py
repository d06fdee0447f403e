"""What reaches an executor's inbox: pushed by the scheduler, never polled for. Where machines work
together they write to one another, too."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from simherd.contract.cause import Cause
from simherd.contract.typed_json import from_json, parse_object, to_json


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
    #: Answer a question about the attempt's files: the fields of `LiveRequest`.
    LIVE_FILES = "live_files"
    #: Look for the observers' files, too. observers.
    OBSERVE = "observe"
    #: From the leader of machines that work together: take part in the attempt, and say how it
    #: goes. leader.
    GANG_JOIN = "gang_join"
    #: From the leader: run a line for a command. request, index, line, env.
    GANG_RUN = "gang_run"
    #: From the leader: it is over.
    GANG_LEAVE = "gang_leave"
    #: To the leader, how it goes. member; state: joining, ready, reclaimed (at) or broken (cause,
    #: detail).
    GANG_STATE = "gang_state"
    #: To the leader, how a line ended. member, request, code, cause and detail where it is not the
    #: line's own.
    GANG_RAN = "gang_ran"


@dataclass(frozen=True)
class Message:
    """One order about one attempt.

    `deadline_at` is in seconds since the epoch; `discard` comes with STOP: nobody wants outputs;
    `detail`, too: why, as a sentence. `body` is what the orders name.
    """

    order: Order
    attempt: str
    cause: Cause | None = None
    deadline_at: float | None = None
    discard: bool = False
    detail: str | None = None
    body: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> str:
        """Return the JSON that the inbox carries."""
        return to_json(self)

    @classmethod
    def decode(cls, text: str) -> Message:
        """Read what `encode` wrote. Raises WrongJson."""
        return from_json(cls, parse_object(text, "message"))
