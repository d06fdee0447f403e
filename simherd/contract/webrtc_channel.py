"""The words of the published client's data channel, over which it looks at a running task's files.

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
    """What a request asks for."""

    #: Names of files, and of folders with what is in them.
    LIST = "ls"
    #: A list of lines.
    TAIL = "tail"
    #: The processes, as text.
    TOP = "top"
    #: most_recent_file, most_recent_timestamp, now_timestamp, time_since_last_mod.
    LAST_MODIFIED = "last_modified_file"


class ReplyStatus(str, Enum):
    """How a request went; other than SUCCESS, the message is a sentence and nothing follows."""

    SUCCESS = "success"
    #: The request itself makes no sense.
    INVALID = "invalid"
    ERROR = "error"


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: ReplyStatus
    message: Any

    def encode(self) -> str:
        """The text that the channel carries; in ASCII, so that characters are bytes."""
        body = {"status": self.status.value, "message": self.message}
        return json.dumps(body, separators=(",", ":"))


@dataclass(frozen=True)
class ChannelRequest:
    """What a client asks for; file, lines and wait are those of a TAIL."""

    wanted: RequestKind
    follow: bool = False
    file: str = ""
    lines: int = 10
    wait: bool = False

    @classmethod
    def read(cls, text: str | bytes) -> ChannelRequest:
        """Read what a client has sent.

        Raises:
            ValueError: it is no such request; the message is for its user.
        """
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
