"""Looking for files among what an attempt puts out, and for lines in them, for its observers."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from executor.attempt.regex_pool import NoTime, RegexPool, TooHard, TookTooLong
from executor.files.confined import CannotShow, open_file
from simherd.contract.reports import ReportKind
from simherd.runtime.logs import in_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from executor.attempt.context import Attempt
    from simherd.contract.notifications import Observer

log = logging.getLogger(__name__)

#: Seconds between two looks; one that took long is followed by a pause so many times as long.
_LOOK_S = 1.0
_PAUSE_SHARE = 20
#: Bytes of a file that one look takes in.
_BYTES = 1024 * 1024
#: Seconds for what is left of all files when the commands have ended: where they were stopped
#: somebody waits.
_LAST_S, _STOPPED_S = 5.0, 1.0
#: Times that a pattern takes too long before it is looked for no more.
_MOST_OVERRUNS = 3


@dataclass
class _Look:
    """An observer, and how far its file was read."""

    observer: Observer
    inode: int = 0
    offset: int = 0
    overruns: int = 0
    #: Whether another look may find more right away.
    more: bool = False


class FileObservers:
    """What is looked for while the commands run: within a `with` block, by a thread of its own,
    which is there only if there is something to look for."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._changed = threading.Condition()
        #: Observer's id → how far it is. What was found stays known, so that it is told once.
        self._looks: dict[str, _Look | None] = {}
        self._running = False
        #: Whether the thread looks for the last time, and when it must be done, monotonic time.
        self._over = False
        self._until = math.inf
        self._thread: threading.Thread | None = None
        self._matcher = RegexPool()
        self.add(attempt.spec.observers)

    def add(self, observers: Iterable[Observer]) -> None:
        """Look for these, too; one that is known already changes nothing."""
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
        """Look for each; where there is more, go on in turn while the share of time lasts, and
        after the commands' end as long as somebody may be kept waiting."""
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
        """Tell what `see` finds, or why it cannot."""
        told, look.more = None, False
        try:
            told = see(look)
        except TookTooLong as error:
            look.overruns += 1
            look.more = self._over
            if look.overruns >= _MOST_OVERRUNS:
                told = {"trouble": str(error)}
        except TooHard as error:
            told = {"trouble": str(error)}
        except (NoTime, CannotShow, OSError) as error:
            # The next look may do better: not there yet, or no plain file, or a busy machine.
            log.debug("event=not_observed observer=%s error=%r", look.observer.id, error)
        except Exception:
            # The thread goes on for the others.
            log.exception("event=observer_broke observer=%s", look.observer.id)
            told = {"trouble": "The executor failed while it looked; its log has the cause."}
        if told is not None:
            self._tell(look, told)

    def _tell(self, look: _Look, told: dict[str, Any]) -> None:
        look.more = False
        try:
            self._attempt.report(ReportKind.OBSERVED, observer_id=look.observer.id, **told)
        except Exception:
            log.exception("event=observer_not_told observer=%s", look.observer.id)
            return
        self._looks[look.observer.id] = None

    def _seen(self, look: _Look) -> dict[str, Any] | None:
        """What is to be told of a file, if anything is."""
        with open_file(self._attempt.work, look.observer.path) as opened:
            if look.observer.regex is None:
                return {"captured": None}
            if self._time_is_up():
                return None
            data, more = _piece(look, opened.fileno(), last=self._over)
        if data:
            text = data.decode(errors="replace")
            found = self._matcher.look(look.observer.regex, text, self._time_is_up)
            if found is not None:
                return {"captured": found}
            look.offset += len(data)
        look.more = more
        return None

    def _time_is_up(self) -> bool:
        return time.monotonic() > self._until

    def _missed(self, look: _Look) -> dict[str, Any] | None:
        """What is to be told of what nobody has looked at, if there is something."""
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
    """The next whole lines of a file, or a piece of a long one; at last all that is left. Answers
    besides whether more may follow."""
    _size_left(look, file)
    data = os.pread(file, _BYTES, look.offset)
    more = len(data) == _BYTES
    whole = data[: data.rfind(b"\n") + 1]
    if more:
        return whole or data, True
    return data if last else whole, False


def _size_left(look: _Look, file: int) -> int:
    """Bytes that nobody has looked at; a file that was exchanged or cut is begun anew."""
    info = os.fstat(file)
    if info.st_ino != look.inode or info.st_size < look.offset:
        look.inode, look.offset = info.st_ino, 0
    return info.st_size - look.offset
