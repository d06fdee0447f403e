"""A notice that the provider reclaims this machine, and the protocol of its sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ReclaimNotice:
    """The provider says that it reclaims this machine."""

    #: When the machine goes, seconds since the epoch by this machine's clock.
    reclaim_at: float
    #: The `name` of the source that says so.
    source: str


class SourceError(Exception):
    """A source could not be reached, or returned something that cannot be understood."""


class NoticeSource(Protocol):
    """A source of notices for this machine. Used by one thread at a time."""

    #: A word for logs; never holds a password.
    name: str
    #: Seconds between two polls.
    every_s: float

    def poll(self) -> ReclaimNotice | None:
        """Return the notice that stands, at every poll again; None when there is none.

        Sources over HTTP return within `executor.spot.http.LOOK_S`.

        Raises:
            SourceError: there is no response, or it is junk. Junk never becomes a notice.
        """

    def close(self) -> None:
        """Release what it holds; may be called twice. No poll follows."""
