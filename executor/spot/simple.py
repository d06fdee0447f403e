"""Notices from a file or a URL: for machines of one's own, other clouds, and tests."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from executor.spot.http import MetadataClient, refused
from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import FARTHEST_S, believable, fields_of, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Seconds from an empty file's last change until the machine goes: as long as on AWS.
_EMPTY_S = 120.0
_MOST_BYTES = 64 * 1024
_OK, _NO_CONTENT, _NOT_FOUND = 200, 204, 404


class FileSource:
    """A file that is there is the notice.

    In it is {"reclaim_at": seconds since the epoch}, or {"in_s": seconds after the file's last
    change}, or nothing, which is 120 s after it. It is best written aside and renamed: what is
    half written is an error for a moment.
    """

    #: Seconds; looking for a file costs some microseconds.
    every_s = 0.25

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since the epoch."""
        self.name = path.as_uri()
        self._path = path
        self._clock = clock

    def look(self) -> ReclaimNotice | None:
        """What the file says; see `Source.look`."""
        try:
            text, changed_at = self._read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{self._path}: {error}") from error
        if not text.strip():
            at = changed_at + _EMPTY_S
        else:
            told = fields_of(text)
            at = _reclaim_at(told) if "reclaim_at" in told else changed_at + _in_s(told)
        return ReclaimNotice(believable(at, self._clock()), self.name)

    def close(self) -> None:
        """Nothing is held."""

    def _read(self) -> tuple[str, float]:
        # Whatever is there must not hold the look, as a pipe without a writer would.
        file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise SourceError(f"{self._path} is no file")
            data = os.read(file, _MOST_BYTES + 1)
        finally:
            os.close(file)
        if len(data) > _MOST_BYTES:
            raise SourceError(f"{self._path} is longer than {_MOST_BYTES} bytes")
        return data.decode(), found.st_mtime


class HttpSource:
    """A URL: 404 or 204 is no notice, 200 with the JSON of `FileSource` is one.

    `in_s` counts from when it was first answered; it may also count down. An empty 200 is an
    error: too many servers answer that to everything.
    """

    #: Seconds; as often as the clouds with short notices are asked.
    every_s = 1.0

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since the epoch."""
        parts = urlsplit(url)
        # Without what may be secret in a URL.
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._asker = MetadataClient(url)
        self._clock = clock
        self._in_s: float | None = None
        self._since = 0.0

    def look(self) -> ReclaimNotice | None:
        """What the URL says; see `Source.look`."""
        self._asker.begin()
        answer = self._asker.get("")
        if answer.status_code in (_NOT_FOUND, _NO_CONTENT):
            self._in_s = None
            return None
        if answer.status_code != _OK:
            raise refused(answer)
        told, now = fields_of(answer.text), self._clock()
        if "reclaim_at" in told:
            return ReclaimNotice(believable(_reclaim_at(told), now), self.name)
        in_s = _in_s(told)
        if in_s != self._in_s:
            self._in_s, self._since = in_s, now
        return ReclaimNotice(self._since + in_s, self.name)

    def close(self) -> None:
        """See `Source.close`."""
        self._asker.close()


def _reclaim_at(told: dict[str, Any]) -> float:
    _only(told, "reclaim_at")
    return seconds_of(told, "reclaim_at")


def _in_s(told: dict[str, Any]) -> float:
    _only(told, "in_s")
    seconds = seconds_of(told, "in_s")
    if not 0 <= seconds <= FARTHEST_S:
        raise SourceError(f"in_s is {seconds:g}; it can be 0 to {FARTHEST_S:g}")
    return seconds


def _only(told: dict[str, Any], field: str) -> None:
    # Another document that happens to have the field is no notice.
    if set(told) != {field}:
        raise SourceError(f"there is {sorted(told)[:5]}, but reclaim_at or in_s alone is needed")
