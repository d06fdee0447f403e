"""Looking for the files of observers, and for lines in them, while an attempt runs."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from executor.attempt.regex_pool import NoTime, RegexPool, TooHard, TookTooLong
from executor.files.confined import CannotShow, open_file
from simherd.contract.reports import ReportKind
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from executor.attempt.stop import StopSwitch
    from simherd.contract.attempt_spec import AttemptSpec
    from simherd.contract.notifications import Observer

log = logging.getLogger(__name__)

#: Seconds between two looks; a long look is followed by a pause so many times as long.
_LOOK_S = 1.0
_PAUSE_SHARE = 20
#: Bytes of a file that one look reads.
_BYTES = 1024 * 1024
#: Seconds for the rest of all files after the commands have ended; fewer after a stop, because then
#: somebody waits for the end.
_LAST_S, _STOPPED_S = 5.0, 1.0
#: How often a pattern may take too long before it is given up.
_MOST_OVERRUNS = 3


class ObservedAttempt(Protocol):
    """An attempt, as its observers see it."""

    @property
    def spec(self) -> AttemptSpec: ...
    @property
    def work(self) -> Path: ...
    @property
    def switch(self) -> StopSwitch: ...

    def report(self, kind: ReportKind, **body: Any) -> None:
        """Send a report to the scheduler."""


@dataclass
class _Look:
    """An observer, and how far its file has been read."""

    observer: Observer
    inode: int = 0
    offset: int = 0
    overruns: int = 0
    #: Whether another look may find more right away.
    more: bool = False


class FileObservers:
    """Looks for files within a `with` block; without observers there is no thread."""

    def __init__(self, attempt: ObservedAttempt) -> None:
        self._attempt = attempt
        self._changed = threading.Condition()
        #: Observer's id → its look; None once it was reported, so that it is reported once.
        self._looks: dict[str, _Look | None] = {}
        self._running = False
        #: Whether the thread looks for the last time, and when it must end, monotonic time.
        self._over = False
        self._until = math.inf
        self._thread: threading.Thread | None = None
        self._matcher = RegexPool()
        self.add(attempt.spec.observers)

    def add(self, observers: Iterable[Observer]) -> None:
        """Look for these as well; an observer that is already known changes nothing."""
        with self._changed:
            for observer in observers:
                self._looks.setdefault(observer.id, _Look(observer))
            self._start()

    def __enter__(self) -> FileObservers:
        with self._changed:
            self._running = True
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            stopped = self._attempt.switch.cause is not None
            self._until = time.monotonic() + (_STOPPED_S if stopped else _LAST_S)
            self._running = False
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._matcher.close()

    def _start(self) -> None:
        if self._running and self._thread is None and any(self._looks.values()):
            name = f"observers-{self._attempt.spec.key}"
            self._thread = threading.Thread(target=in_context(self._run), name=name)
            self._thread.start()

    def _run(self) -> None:
        pause_s = _LOOK_S
        while not self._over:
            with self._changed:
                self._over = self._changed.wait_for(lambda: not self._running, pause_s)
            began = time.monotonic()
            self._round(began + _LOOK_S / _PAUSE_SHARE)
            pause_s = max(_LOOK_S, _PAUSE_SHARE * (time.monotonic() - began))
        for look in self._open():
            self._look(look, self._missed)

    def _open(self) -> list[_Look]:
        with self._changed:
            return [look for look in self._looks.values() if look is not None]

    def _round(self, share_until: float) -> None:
        """Look for each in turn, again where there is more, until `share_until`; after the end of
        the commands, until the time for the rest of the files is over."""
        looks = self._open()
        while looks:
            for look in looks:
                if not self._over and not self._running:
                    return
                self._look(look, self._seen)
            looks = [look for look in looks if look.more]
            if time.monotonic() > (self._until if self._over else share_until):
                return

    def _look(self, look: _Look, see: Callable[[_Look], dict[str, Any] | None]) -> None:
        """Report what `see` finds, or why it fails."""
        body, look.more = None, False
        try:
            body = see(look)
        except TookTooLong as error:
            look.overruns += 1
            look.more = self._over
            if look.overruns >= _MOST_OVERRUNS:
                body = {"trouble": str(error)}
        except TooHard as error:
            body = {"trouble": str(error)}
        except (NoTime, CannotShow, OSError) as error:
            # The next look may succeed: the file is missing or special, or the machine is busy.
            log.debug("event=not_observed observer=%s error=%r", look.observer.id, error)
        except Exception:
            # The thread goes on for the others.
            log.exception("event=observer_broke observer=%s", look.observer.id)
            body = {"trouble": "The executor failed while it looked; its log has the cause."}
        if body is not None:
            self._report(look, body)

    def _report(self, look: _Look, body: dict[str, Any]) -> None:
        look.more = False
        try:
            self._attempt.report(ReportKind.OBSERVED, observer_id=look.observer.id, **body)
        except Exception:
            log.exception("event=observer_not_reported observer=%s", look.observer.id)
            return
        self._looks[look.observer.id] = None

    def _seen(self, look: _Look) -> dict[str, Any] | None:
        """Return the report on a file, if there is something to report."""
        with open_file(self._attempt.work, look.observer.path) as opened:
            if look.observer.regex is None:
                return {"captured": None}
            if self._time_is_up():
                return None
            data, more = _piece(look, opened.fileno(), last=self._over)
        if data:
            text = data.decode(errors="replace")
            captured = self._matcher.look(look.observer.regex, text, self._time_is_up)
            if captured is not None:
                return {"captured": captured}
            look.offset += len(data)
        look.more = more
        return None

    def _time_is_up(self) -> bool:
        return time.monotonic() > self._until

    def _missed(self, look: _Look) -> dict[str, Any] | None:
        """Return the report on the bytes that were not read, if there are some."""
        if look.observer.regex is None:
            return None
        with open_file(self._attempt.work, look.observer.path) as opened:
            left = _size_left(look, opened.fileno())
        if not left:
            return None
        return {
            "trouble": f"The commands ended before the last {left} bytes of "
            f"{look.observer.path[:200]!r} could be looked at.",
            "missed": left,
        }


def _piece(look: _Look, file: int, *, last: bool) -> tuple[bytes, bool]:
    """Return the next whole lines of a file, or a part of a long line, and whether more may follow;
    with `last`, return all that is left."""
    _size_left(look, file)
    data = os.pread(file, _BYTES, look.offset)
    more = len(data) == _BYTES
    whole = data[: data.rfind(b"\n") + 1]
    if more:
        return whole or data, True
    return data if last else whole, False


def _size_left(look: _Look, file: int) -> int:
    """Return the bytes that were not read; a file that was replaced or truncated begins again."""
    info = os.fstat(file)
    if info.st_ino != look.inode or info.st_size < look.offset:
        look.inode, look.offset = info.st_ino, 0
    return info.st_size - look.offset
