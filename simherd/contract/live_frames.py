"""Reading a task's files while it runs: requests to an executor, and the frames of its reply.

A request reaches the executor through its inbox. The reply goes to a Redis stream that the
scheduler has created: as long as it exists it is read, and frames are deleted after their use, so
that an executor sends no faster than they are used.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from simherd.contract.typed_json import WrongJson, from_json, parse_object

#: Stream field that holds a frame.
FIELD = "f"
_REQUEST = re.compile("[0-9a-f]{32}")


class Ask(str, Enum):
    """The kind of a request."""

    #: The files below the work folder.
    LIST = "list"
    #: The last lines of some files, and the text that is added.
    TAIL = "tail"
    #: The processes of the running command.
    TOP = "top"
    #: The file that was written to last.
    LAST_MODIFIED = "last_modified"
    #: One file, in slices that go through object storage.
    FETCH = "fetch"


class FrameKind(str, Enum):
    """The kind of a frame."""

    #: The first frame, from the scheduler.
    OPEN = "open"
    #: entries: of files, see `FileEntry`.
    ENTRIES = "entries"
    #: file, text, start and offset (its bytes in the file), skipped (bytes before that, left out),
    #: and a flag for a file that was replaced or cut.
    TEXT = "text"
    #: text.
    TOP = "top"
    #: entry.
    FILE = "file"
    #: number, size: a slice that was stored.
    SLICE = "slice"
    #: code, detail, and file where it is about one of several.
    ERROR = "error"
    #: The request is still followed, and nothing is new.
    ALIVE = "alive"
    #: Nothing more follows. truncated (LIST), sha256 (FETCH), over (the attempt has ended).
    END = "end"


class Trouble(str, Enum):
    """Why a request failed."""

    NOT_FOUND = "not_found"
    NOT_A_FILE = "not_a_file"
    NOT_TEXT = "not_text"
    INVALID = "invalid"
    BUSY = "busy"
    NOT_RUNNING = "not_running"
    UNREADABLE = "unreadable"


class FileKind(str, Enum):
    """The kind of an entry of a folder."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True)
class FileEntry:
    """One entry below the work folder: its relative path, bytes, seconds since the epoch."""

    name: str
    kind: FileKind
    size: int
    modified_at: float


@dataclass(frozen=True)
class LiveRequest:
    """A request about one attempt's files.

    `offsets` say for each of `files` from which byte to continue; with -1 the last `lines` lines
    come first. `follow` continues with added text, `wait` waits until a file exists.
    """

    ask: Ask
    files: tuple[str, ...] = ()
    lines: int = 10
    follow: bool = False
    wait: bool = False
    offsets: tuple[int, ...] = ()
    #: The id of the request, and of the stream for its reply; set when it is sent.
    request: str = ""

    def body(self) -> dict[str, Any]:
        """Return the body of the inbox message."""
        return asdict(self)

    @classmethod
    def read(cls, body: dict[str, Any]) -> LiveRequest:
        """Read what `body` made. Raises WrongJson: it is not such a request."""
        asked = from_json(cls, body, "request")
        offsets = asked.offsets or (-1,) * len(asked.files)
        if not _REQUEST.fullmatch(asked.request) or len(offsets) != len(asked.files):
            raise WrongJson("request: its name, or the number of its offsets, cannot be.")
        return replace(asked, offsets=offsets)


@dataclass(frozen=True)
class Frame:
    """One piece of a reply."""

    kind: FrameKind
    body: dict[str, Any]

    def encode(self) -> str:
        """Return the JSON that the stream carries."""
        return json.dumps({"kind": self.kind.value, **self.body}, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Frame:
        """Read what `encode` wrote. Raises WrongJson: it is not a frame."""
        body = parse_object(text, "frame")
        return cls(from_json(FrameKind, body.pop("kind", ""), "kind"), body)
