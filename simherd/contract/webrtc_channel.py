"""The words of the published client's data channel, over which it looks at a running task's files.

The client opens a channel and sends one request; each reply has a status and a message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from simherd.contract import limits

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
        body = _object(text)
        given = body.get("type")
        try:
            wanted = RequestKind(given)
        except ValueError:
            known = ", ".join(w.value for w in RequestKind)
            raise ValueError(f"type: must be one of {known}; given was {given!r:.200}.") from None
        arguments = body.get("args") or {}
        if not isinstance(arguments, dict):
            raise ValueError(f"args: must be an object; given was {arguments!r:.200}.")
        follow = _switch(body, "follow")
        if wanted is not RequestKind.TAIL:
            return cls(wanted, follow)
        file, lines = arguments.get("filename"), arguments.get("lines", cls.lines)
        if not isinstance(file, str) or not file:
            raise ValueError(f"filename: must be the name of a file; given was {file!r:.200}.")
        if type(lines) is not int or not 0 <= lines <= limits.LIVE_MAX_LINES:
            most = limits.LIVE_MAX_LINES
            raise ValueError(f"lines: must be 0 to {most}; given was {lines!r:.200}.")
        return cls(wanted, follow, file, lines, _switch(arguments, "wait"))


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"request: is not JSON ({error}).") from None
    if not isinstance(body, dict):
        raise ValueError(f"request: must be an object; given was {body!r:.200}.")
    return body


def _switch(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name}: must be true or false; given was {value!r:.200}.")
    return value
