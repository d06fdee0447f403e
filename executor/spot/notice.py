"""What a notice is, and what gives one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ReclaimNotice:
    """The provider says that it reclaims this machine."""

    #: When the machine goes, seconds since the epoch by this machine's clock.
    reclaim_at: float
    #: Whose word it is: the source's `name`.
    source: str


class SourceError(Exception):
    """A source could not be asked, or answered something that means nothing."""


class NoticeSource(Protocol):
    """Somebody who can be asked whether the machine is reclaimed. Used by one thread at a time."""

    #: A word for logs; never has a password in it.
    name: str
    #: Seconds between two looks.
    every_s: float

    def look(self) -> ReclaimNotice | None:
        """Ask once; None when there is no notice. The same notice is answered at every look.

        Sources that ask over HTTP answer within `executor.spot.http.LOOK_S`.

        Raises:
            SourceError: there is no answer, or it is junk. Junk never becomes a notice.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; may be called twice. No look follows."""
        ...
