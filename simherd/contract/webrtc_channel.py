"""The messages of the published client's data channel, with which it reads a running task's files.

The client opens a channel and sends one request; each reply has a status and a message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from simherd.contract import limits
from simherd.contract.typed_json import WrongJson, from_json, parse_object

#: The name of the channel.
LABEL = "file_transfer"


class RequestKind(str, Enum):
    """The kind of a request."""

    #: Names of files, and of folders with their content.
    LIST = "ls"
    #: A list of lines.
    TAIL = "tail"
    #: The processes, as text.
    TOP = "top"
    #: most_recent_file, most_recent_timestamp, now_timestamp, time_since_last_mod.
    LAST_MODIFIED = "last_modified_file"


class ReplyStatus(str, Enum):
    """The result of a request; with any but SUCCESS, the message is a sentence and the last one."""

    SUCCESS = "success"
    #: The request is not valid.
    INVALID = "invalid"
    ERROR = "error"


@dataclass(frozen=True)
class Reply:
    """One reply."""

    status: ReplyStatus
    message: Any

    def encode(self) -> str:
        """Return the text that the channel carries; in ASCII, so that characters are bytes."""
        body = {"status": self.status.value, "message": self.message}
        return json.dumps(body, separators=(",", ":"))


@dataclass(frozen=True)
class ChannelRequest:
    """The request of a client; file, lines and wait belong to a TAIL."""

    wanted: RequestKind
    follow: bool = False
    file: str = ""
    lines: int = 10
    wait: bool = False

    @classmethod
    def read(cls, text: str | bytes) -> ChannelRequest:
        """Read what a client has sent.
        Raises WrongJson: it is not such a request; the message is for its user."""
        body = parse_object(text, "request")
        wanted = from_json(RequestKind, body.get("type"), "type")
        arguments = body.get("args") or {}
        follow = from_json(bool, body.get("follow", False), "follow")
        if wanted is not RequestKind.TAIL:
            from_json(dict[str, Any], arguments, "args")
            return cls(wanted, follow)
        asked = from_json(_TailArguments, arguments, "args")
        if not asked.filename:
            raise WrongJson("filename: the name of a file is needed, not ''.")
        if not 0 <= asked.lines <= limits.LIVE_MAX_LINES:
            raise WrongJson(f"lines: must be 0 to {limits.LIVE_MAX_LINES}, not {asked.lines}.")
        return cls(wanted, follow, asked.filename, asked.lines, asked.wait)


@dataclass(frozen=True)
class _TailArguments:
    filename: str
    lines: int = 10
    wait: bool = False
