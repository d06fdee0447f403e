"""Messages in the inbox of an executor, from the scheduler and the machines of an MPI group."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from simherd.contract.cause import Cause
from simherd.contract.typed_json import from_json, parse_object, to_json


class Order(str, Enum):
    """What the receiver must do."""

    #: Stop the attempt for the cause that is given.
    STOP = "stop"
    #: Set the attempt's deadline; with `cause` COST_LIMIT, the end of its money.
    DEADLINE = "deadline"
    #: Claim nothing more; `attempt` is empty.
    DRAIN = "drain"
    #: Stop everything and exit: the machine no longer belongs to the group.
    LEAVE = "leave"
    #: Drop what was prefetched for the attempt.
    UNSTAGE = "unstage"
    #: Reply to a request about the attempt's files: the fields of `LiveRequest`.
    LIVE_FILES = "live_files"
    #: Look for the observers' files too. observers.
    OBSERVE = "observe"
    #: From the leader of an MPI group: take part in the attempt, and report. leader.
    GANG_JOIN = "gang_join"
    #: From the leader: run a line for a command. request, index, line, env.
    GANG_RUN = "gang_run"
    #: From the leader: the attempt has ended.
    GANG_LEAVE = "gang_leave"
    #: To the leader: the state of a member. member; state: joining, ready, reclaimed (at) or broken
    #: (cause, detail).
    GANG_STATE = "gang_state"
    #: To the leader: how a line ended. member, request, code; cause and detail where the machine,
    #: not the line, is the reason.
    GANG_RAN = "gang_ran"


@dataclass(frozen=True)
class Message:
    """One order about one attempt.

    `deadline_at` is in seconds since the epoch. With STOP come `discard` (the outputs are not
    needed) and `detail` (why, as a sentence). `body` holds the fields that the orders name.
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
