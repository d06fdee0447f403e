"""Notices from a file or a URL: for private machines, other clouds, and tests."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from executor.spot.http import MetadataSource, check_ok
from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import FARTHEST_S, believable, fields_of, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

#: Seconds from an empty file's last change until the machine goes: as long as on AWS.
_EMPTY_S = 120.0
_MOST_BYTES = 64 * 1024
_NO_CONTENT, _NOT_FOUND = 204, 404


class FileSource:
    """A file whose presence is the notice.

    It holds {"reclaim_at": seconds since the epoch}, or {"in_s": seconds after the file's last
    change}, or nothing, which means 120 s after it. It is best written aside and renamed: a file
    that is half written is an error for a moment.
    """

    #: Seconds; looking for a file costs some microseconds.
    every_s = 0.25

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since the epoch."""
        self.name = path.as_uri()
        self._path = path
        self._clock = clock

    def poll(self) -> ReclaimNotice | None:
        """Return what the file says; see `NoticeSource.poll`."""
        try:
            text, changed_at = self._read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{self._path}: {error}") from error
        if not text.strip():
            at = changed_at + _EMPTY_S
        else:
            fields = fields_of(text)
            at = _reclaim_at(fields) if "reclaim_at" in fields else changed_at + _in_s(fields)
        return ReclaimNotice(believable(at, self._clock()), self.name)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _read(self) -> tuple[str, float]:
        # Not blocking: a pipe without a writer must not hold the poll.
        fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise SourceError(f"{self._path} is not a file")
            data = os.read(fd, _MOST_BYTES + 1)
        finally:
            os.close(fd)
        if len(data) > _MOST_BYTES:
            raise SourceError(f"{self._path} is longer than {_MOST_BYTES} bytes")
        return data.decode(), info.st_mtime


class HttpSource(MetadataSource):
    """A URL: 404 or 204 means no notice, 200 with the JSON of `FileSource` is one.

    `in_s` counts from the first such response; it may also count down. An empty 200 is an error:
    too many servers send that for everything.
    """

    #: Seconds; as often as the clouds with short notices are polled.
    every_s = 1.0

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] = time.time,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, clock, transport)
        parts = urlsplit(url)
        # Without what may be secret in a URL.
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._in_s: float | None = None
        self._since = 0.0

    def poll(self) -> ReclaimNotice | None:
        """Return what the URL says; see `NoticeSource.poll`."""
        self.begin()
        response = self.request("GET", "")
        if response.status_code in (_NOT_FOUND, _NO_CONTENT):
            self._in_s = None
            return None
        check_ok(response)
        fields, now = fields_of(response.text), self._clock()
        if "reclaim_at" in fields:
            return ReclaimNotice(believable(_reclaim_at(fields), now), self.name)
        in_s = _in_s(fields)
        if in_s != self._in_s:
            self._in_s, self._since = in_s, now
        return ReclaimNotice(self._since + in_s, self.name)


def _reclaim_at(fields: dict[str, Any]) -> float:
    _check_only(fields, "reclaim_at")
    return seconds_of(fields, "reclaim_at")


def _in_s(fields: dict[str, Any]) -> float:
    _check_only(fields, "in_s")
    seconds = seconds_of(fields, "in_s")
    if not 0 <= seconds <= FARTHEST_S:
        raise SourceError(f"in_s is {seconds:g}; it can be 0 to {FARTHEST_S:g}")
    return seconds


def _check_only(fields: dict[str, Any], field: str) -> None:
    # Another document that happens to have the field is not a notice.
    if set(fields) != {field}:
        raise SourceError(f"there is {sorted(fields)[:5]}, but reclaim_at or in_s alone is needed")
