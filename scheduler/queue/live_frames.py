"""Validation of the frames that machines send about live files.

A holder of a machine's credentials can write anything into its group's streams. A frame that does
not fit its kind is refused whole, before its values reach users or memory.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from simherd.contract import limits
from simherd.contract.live_frames import FileKind, Frame, FrameKind, Trouble

#: The largest number of bytes of a file, and position in it: what file systems count with.
_MOST = 2**63 - 1
#: Longest path, characters, and the most folders below one another: Linux' PATH_MAX, and what a
#: client can draw as a tree.
_PATH_CHARACTERS, _PATH_PARTS = 4096, 200
_SENTENCE_CHARACTERS = 4096
#: Characters of a process table.
_TOP_CHARACTERS = 1024**2


def _shallow(path: str) -> str:
    if path.count("/") >= _PATH_PARTS:
        raise ValueError(f"a path has more than {_PATH_PARTS} parts")
    return path


_Path = Annotated[str, Field(min_length=1, max_length=_PATH_CHARACTERS), AfterValidator(_shallow)]
_Sentence = Annotated[str, Field(max_length=_SENTENCE_CHARACTERS)]
_Bytes = Annotated[int, Field(ge=0, le=_MOST)]


class _Body(BaseModel):
    """Fields that are not declared are dropped."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Nothing(_Body):
    pass


class _Entry(_Body):
    name: _Path
    kind: Literal[tuple(kind.value for kind in FileKind)]  # type: ignore[valid-type]
    size: _Bytes
    modified_at: float = Field(allow_inf_nan=False, ge=-_MOST, le=2**40)


class _Entries(_Body):
    entries: list[_Entry] = Field(max_length=limits.LIVE_MAX_ENTRIES)


class _TextOf(_Body):
    file: _Path
    # Bytes that are not UTF-8 have become one character each, of three bytes.
    text: str = Field(max_length=limits.LIVE_TEXT_BYTES)
    start: _Bytes
    offset: _Bytes
    skipped: _Bytes = 0
    anew: bool = False


class _Top(_Body):
    text: str = Field(max_length=_TOP_CHARACTERS)


class _File(_Body):
    entry: _Entry


class _Slice(_Body):
    number: int = Field(ge=0, le=10**9 - 1)
    size: int = Field(ge=0, le=limits.LIVE_SLICE_BYTES)


class _Error(_Body):
    code: Literal[tuple(trouble.value for trouble in Trouble)]  # type: ignore[valid-type]
    detail: _Sentence
    file: _Path | None = None


class _End(_Body):
    truncated: bool = False
    sha256: str = Field(default="", max_length=64)
    over: bool = False


_BODIES: dict[FrameKind, type[_Body]] = {
    FrameKind.OPEN: _Nothing,
    FrameKind.ENTRIES: _Entries,
    FrameKind.TEXT: _TextOf,
    FrameKind.TOP: _Top,
    FrameKind.FILE: _File,
    FrameKind.SLICE: _Slice,
    FrameKind.ERROR: _Error,
    FrameKind.ALIVE: _Nothing,
    FrameKind.END: _End,
}


class BadFrame(ValueError):
    """The text is not a valid frame."""


def read_frame(text: str) -> Frame:
    """Read a frame that a machine wrote.
    Raises BadFrame: it is not one, or a field is missing, of another type, or out of its bounds."""
    try:
        frame = Frame.decode(text)
        body = _BODIES[frame.kind].model_validate(frame.body)
    except ValidationError as error:
        row = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, row["loc"]))
        raise BadFrame(f"{frame.kind.value}: {where}: {row['msg']}") from error
    except (ValueError, RecursionError, TypeError) as error:
        raise BadFrame(f"not a frame: {type(error).__name__}") from error
    if isinstance(body, _TextOf) and body.offset < body.start:
        raise BadFrame("text: offset: it lies before start")
    # Fields that were not sent stay out: an error without a file has no field for it.
    return Frame(frame.kind, body.model_dump(exclude_unset=not isinstance(body, _TextOf | _End)))


def size_of(frame: Frame) -> int:
    """Return about how much memory a frame takes, bytes."""
    return len(json.dumps(frame.body))
