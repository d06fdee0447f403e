"""What is to be done about what a source says. Nothing here waits, asks or reads a clock."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.spot.notice import ReclaimNotice

#: Seconds after the time it was to go at which a machine that is still there is not going:
#: FAULTS.md, row 18.
OVER_S = 60.0
#: Seconds of nothing but errors after which a source counts as silent: FAULTS.md, row 19. Azure's
#: first answer may take 120 s.
SILENT_S = 180.0
#: Seconds by which a deadline must be earlier to be worth telling. Sources that count down in
#: whole seconds vary by two.
SAME_S = 3.0
#: Seconds by which the machine's clock may be ahead of the provider's. A notice that comes up
#: before our eyes is heeded even when its time seems to have passed that long ago.
CLOCK_OFF_S = 900.0


class NoticeAction(Enum):
    """What is to be done after a look."""

    NOTHING = auto()
    #: Tell of the notice that was seen.
    TELL = auto()
    #: The machine that was to go stays.
    OVER = auto()


class NoticeTracker:
    """Tells notices that are new from those that are known, and knows when one came to nothing."""

    def __init__(self) -> None:
        #: What was told of, until it is over.
        self._told: ReclaimNotice | None = None
        #: The latest time at which the source said that the machine goes.
        self._last_said = 0.0
        #: When the machine should be gone, seconds since the epoch.
        self._gone_at = 0.0
        #: The time of a notice that came to nothing; the source may repeat it for long.
        self._stale: float | None = None
        #: Whether the last word of the source was that there is no notice.
        self._clear = False

    def see(self, now: float, seen: ReclaimNotice | Exception | None) -> NoticeAction:
        """A look's result; `now` in seconds since the epoch.

        An error is no word about the machine. A notice is over in spite of errors when they go on
        for SILENT_S longer: a machine that stands idle until its metadata service is repaired
        helps nobody.
        """
        if isinstance(seen, Exception):
            return self._look_whether_over(now, OVER_S + SILENT_S)
        if seen is None:
            self._clear, self._stale = True, None
            return self._look_whether_over(now, OVER_S)
        was_clear, self._clear = self._clear, False
        if self._told is None:
            return self._first(now, seen, was_clear)
        return self._again(now, seen, self._told)

    def _first(self, now: float, seen: ReclaimNotice, was_clear: bool) -> NoticeAction:
        if self._stale is not None and abs(seen.reclaim_at - self._stale) <= SAME_S:
            return NoticeAction.NOTHING
        late_s = now - seen.reclaim_at
        if late_s >= OVER_S and not (was_clear and late_s <= CLOCK_OFF_S):
            # It came to nothing before this agent was there to see it.
            self._stale = seen.reclaim_at
            return NoticeAction.NOTHING
        return self._tell(now, seen)

    def _again(self, now: float, seen: ReclaimNotice, told: ReclaimNotice) -> NoticeAction:
        earlier = seen.reclaim_at < told.reclaim_at - SAME_S
        # The one that was told of has passed, and the source says a new time.
        another = told.reclaim_at <= now < seen.reclaim_at and (
            seen.reclaim_at > told.reclaim_at + SAME_S
        )
        if (earlier and now < self._gone_at) or another:
            return self._tell(now, seen)
        # Who was told an earlier time stays with it; only the end is waited for longer.
        self._last_said = seen.reclaim_at
        self._gone_at = max(self._gone_at, seen.reclaim_at)
        return self._look_whether_over(now, OVER_S)

    def _tell(self, now: float, notice: ReclaimNotice) -> NoticeAction:
        self._told, self._stale = notice, None
        self._last_said = notice.reclaim_at
        # A time that is that long past is not the machine's own time.
        late = now - notice.reclaim_at >= OVER_S
        self._gone_at = now if late else notice.reclaim_at
        return NoticeAction.TELL

    def _look_whether_over(self, now: float, patience_s: float) -> NoticeAction:
        if self._told is None or now < self._gone_at + patience_s:
            return NoticeAction.NOTHING
        self._told = None
        # What was withdrawn may come again, and is a new notice then.
        self._stale = None if self._clear else self._last_said
        return NoticeAction.OVER


class LogChoice(Enum):
    """What is to be logged after a look."""

    NOTHING = auto()
    #: The first error.
    WARN = auto()
    #: Nothing but errors for SILENT_S.
    ALARM = auto()
    #: It answers again, after a WARN or an ALARM.
    BACK = auto()


class SourceErrors:
    """For how long a source has answered nothing but errors, and which of them are worth a line.

    Times are in seconds of a clock that is never set, and that stands while the machine sleeps.
    """

    def __init__(self, now: float) -> None:
        self._answered_at = now
        self._warned_at: float | None = None
        #: What the log says of the source: nothing, WARN or ALARM.
        self._said = LogChoice.NOTHING

    def silent_s(self, now: float) -> float:
        """Seconds since the last answer, or since the start."""
        return max(0.0, now - self._answered_at)

    def see(self, now: float, *, failed: bool) -> LogChoice:
        """A look's result."""
        if not failed:
            self._answered_at = now
            said, self._said = self._said, LogChoice.NOTHING
            return LogChoice.NOTHING if said is LogChoice.NOTHING else LogChoice.BACK
        if self.silent_s(now) >= SILENT_S:
            word = LogChoice.ALARM
        elif self._warned_at is None or now - self._warned_at >= SILENT_S:
            # A source that fails at every other look must not fill the log.
            word = LogChoice.WARN
        else:
            return LogChoice.NOTHING
        if self._said in (word, LogChoice.ALARM):
            return LogChoice.NOTHING
        self._said = word
        self._warned_at = now
        return word
