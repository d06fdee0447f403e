"""Decisions about what a source says. Nothing here waits, makes requests or reads a clock."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.spot.notice import ReclaimNotice

#: Seconds after its announced end after which a machine that is still there stays: FAULTS.md,
#: row 18.
OVER_S = 60.0
#: Seconds of nothing but errors after which a source counts as silent: FAULTS.md, row 19. Azure's
#: first response may take 120 s.
SILENT_S = 180.0
#: Seconds by which a deadline must be earlier to be worth another notification: sources that
#: count down in whole seconds vary by two.
SAME_S = 3.0
#: Seconds by which the machine's clock may be ahead of the provider's. A notice that
#: appears between two polls counts even when its time seems to have passed that long ago.
CLOCK_OFF_S = 900.0


class NoticeAction(Enum):
    """The reaction to one poll."""

    NOTHING = auto()
    #: Notify of the notice that was returned.
    NOTIFY = auto()
    #: The machine that was to go stays.
    OVER = auto()


class NoticeTracker:
    """Distinguishes new notices from known ones, and detects when one came to nothing."""

    def __init__(self) -> None:
        #: The notice that was passed on, until it is over.
        self._current: ReclaimNotice | None = None
        #: The latest time at which the source said that the machine goes.
        self._last_said = 0.0
        #: When the machine should be gone, seconds since the epoch.
        self._gone_at = 0.0
        #: The time of a notice that came to nothing; the source may repeat it for long.
        self._stale: float | None = None
        #: Whether the last poll that succeeded returned no notice.
        self._clear = False

    def observe(self, now: float, result: ReclaimNotice | Exception | None) -> NoticeAction:
        """Take in the result of a poll; `now` in seconds since the epoch.

        An error says nothing about the machine. A notice is over in spite of errors when they go on
        for SILENT_S longer: a machine that stands idle until its metadata service is repaired
        helps nobody.
        """
        if isinstance(result, Exception):
            return self._check_over(now, OVER_S + SILENT_S)
        if result is None:
            self._clear, self._stale = True, None
            return self._check_over(now, OVER_S)
        was_clear, self._clear = self._clear, False
        if self._current is None:
            return self._first(now, result, was_clear)
        return self._again(now, result, self._current)

    def _first(self, now: float, notice: ReclaimNotice, was_clear: bool) -> NoticeAction:
        if self._stale is not None and abs(notice.reclaim_at - self._stale) <= SAME_S:
            return NoticeAction.NOTHING
        late_s = now - notice.reclaim_at
        if late_s >= OVER_S and not (was_clear and late_s <= CLOCK_OFF_S):
            # It came to nothing before this agent was there to see it.
            self._stale = notice.reclaim_at
            return NoticeAction.NOTHING
        return self._notify(now, notice)

    def _again(self, now: float, notice: ReclaimNotice, current: ReclaimNotice) -> NoticeAction:
        is_earlier = notice.reclaim_at < current.reclaim_at - SAME_S
        # The one that was passed on is over, and the source gives a new time.
        is_another = current.reclaim_at <= now < notice.reclaim_at and (
            notice.reclaim_at > current.reclaim_at + SAME_S
        )
        if (is_earlier and now < self._gone_at) or is_another:
            return self._notify(now, notice)
        # The earlier time that was passed on stays; only the end is waited for longer.
        self._last_said = notice.reclaim_at
        self._gone_at = max(self._gone_at, notice.reclaim_at)
        return self._check_over(now, OVER_S)

    def _notify(self, now: float, notice: ReclaimNotice) -> NoticeAction:
        self._current, self._stale = notice, None
        self._last_said = notice.reclaim_at
        # A time that is that long past was given by a clock that is wrong.
        is_late = now - notice.reclaim_at >= OVER_S
        self._gone_at = now if is_late else notice.reclaim_at
        return NoticeAction.NOTIFY

    def _check_over(self, now: float, patience_s: float) -> NoticeAction:
        if self._current is None or now < self._gone_at + patience_s:
            return NoticeAction.NOTHING
        self._current = None
        # What was withdrawn may come again, and is a new notice then.
        self._stale = None if self._clear else self._last_said
        return NoticeAction.OVER


class LogChoice(Enum):
    """The log line after a poll."""

    NOTHING = auto()
    #: The first error.
    WARN = auto()
    #: Nothing but errors for SILENT_S.
    ALARM = auto()
    #: The source works again, after a WARN or an ALARM.
    BACK = auto()


class SourceErrors:
    """For how long a source has returned nothing but errors, and which of them to log. Times are in
    seconds of a monotonic clock, which stands while the machine sleeps."""

    def __init__(self, now: float) -> None:
        self._succeeded_at = now
        self._warned_at: float | None = None
        #: The last line in the log about the source: NOTHING, WARN or ALARM.
        self._logged = LogChoice.NOTHING

    def silent_s(self, now: float) -> float:
        """Return the seconds since the last success, or since the start."""
        return max(0.0, now - self._succeeded_at)

    def observe(self, now: float, *, failed: bool) -> LogChoice:
        """Take in the result of a poll, and return what to log."""
        if not failed:
            self._succeeded_at = now
            logged, self._logged = self._logged, LogChoice.NOTHING
            return LogChoice.NOTHING if logged is LogChoice.NOTHING else LogChoice.BACK
        if self.silent_s(now) >= SILENT_S:
            choice = LogChoice.ALARM
        elif self._warned_at is None or now - self._warned_at >= SILENT_S:
            # A source that fails at every other poll must not fill the log.
            choice = LogChoice.WARN
        else:
            return LogChoice.NOTHING
        if self._logged in (choice, LogChoice.ALARM):
            return LogChoice.NOTHING
        self._logged = choice
        self._warned_at = now
        return choice
