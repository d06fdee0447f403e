"""Looking for files among what an attempt puts out, and for lines in them, for its observers."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from executor.beneath import CannotShow, open_file
from simherd.contract.events import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.attempt import Attempt
    from simherd.contract.triggers import Observer

log = logging.getLogger(__name__)

#: Seconds between two looks; one that took long is followed by a pause so many times as long.
_LOOK_S = 1.0
_PAUSE_SHARE = 20
#: Bytes of a file that one look takes in.
_BYTES = 1024 * 1024
#: Looks at a file that has more, when the commands have ended, and seconds for all files then:
#: where they were stopped somebody waits.
_LAST_LOOKS = 16
_LAST_S, _STOPPED_S = 5.0, 1.0
#: Seconds that a pattern may take for these.
_MATCH_S = 1.0


class TooHard(Exception):
    """A pattern cannot be looked for; the message is for people."""


@dataclass
class _Look:
    """An observer, and how far its file was read."""

    observer: Observer
    inode: int = 0
    offset: int = 0


class Observers:
    """What is looked for while the commands run: within a `with` block, by a thread of its own,
    which is there only if there is something to look for."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._changed = threading.Condition()
        #: Observer's id → how far it is. What was found stays known, so that it is told once.
        self._looks: dict[str, _Look | None] = {}
        self._running = False
        self._thread: threading.Thread | None = None
        self._matcher = Matcher()
        self.add(attempt.spec.observers)

    def add(self, observers: Iterable[Observer]) -> None:
        """Look for these, too; one that is known already changes nothing."""
        with self._changed:
            for observer in observers:
                self._looks.setdefault(observer.id, _Look(observer))
            self._start()

    def __enter__(self) -> Observers:
        with self._changed:
            self._running = True
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._running = False
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._matcher.close()

    def _start(self) -> None:
        if self._running and self._thread is None and any(self._looks.values()):
            name = f"observers-{self._attempt.spec.key}"
            self._thread = threading.Thread(target=self._run, name=name)
            self._thread.start()

    def _run(self) -> None:
        pause_s = _LOOK_S
        while True:
            with self._changed:
                over = self._changed.wait_for(lambda: not self._running, pause_s)
                looks = [look for look in self._looks.values() if look is not None]
            began = time.monotonic()
            until = None
            if over:
                until = began + (_LAST_S if self._attempt.switch.cause is None else _STOPPED_S)
            for look in looks:
                if not over and not self._running:
                    break
                self._look(look, until)
            if over:
                return
            pause_s = max(_LOOK_S, _PAUSE_SHARE * (time.monotonic() - began))

    def _look(self, look: _Look, last_until: float | None) -> None:
        """Look once; after the commands' end as often as there is something new, until then."""
        told: dict[str, Any] | None = None
        try:
            told = self._seen(look, last_until)
        except TooHard as error:
            told = {"trouble": str(error)}
        except (CannotShow, OSError) as error:
            # Not there yet, or no plain file.
            log.debug("event=not_observed observer=%s error=%s", look.observer.id, error)
        if told is not None:
            self._looks[look.observer.id] = None
            self._attempt.report(Kind.OBSERVED, observer_id=look.observer.id, **told)

    def _seen(self, look: _Look, last_until: float | None) -> dict[str, Any] | None:
        """What is to be told of a file, if anything is."""
        with open_file(self._attempt.work, look.observer.path) as opened:
            file = opened.fileno()
            if look.observer.regex is None:
                return {"captured": None}
            for _ in range(_LAST_LOOKS if last_until is not None else 1):
                if last_until is not None and time.monotonic() > last_until:
                    break
                text = _new_text(look, file, last=last_until is not None)
                if text is None:
                    break
                found = self._matcher.look(look.observer.regex, text)
                if found is not None:
                    return {"captured": found}
        return None


def _new_text(look: _Look, file: int, *, last: bool) -> str | None:
    """The whole lines that a file has grown by, or a piece of them; at last all that is left."""
    info = os.fstat(file)
    if info.st_ino != look.inode or info.st_size < look.offset:
        look.inode, look.offset = info.st_ino, 0
    data = os.pread(file, _BYTES, look.offset)
    if len(data) < _BYTES and not last:
        data = data[: data.rfind(b"\n") + 1]
    elif len(data) == _BYTES:
        data = data[: data.rfind(b"\n") + 1] or data
    look.offset += len(data)
    return data.decode(errors="replace") if data else None


class Matcher:
    """A process that looks for patterns, see `matcher.py`; started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def look(self, regex: str, text: str) -> dict[str, Any] | None:
        """What the first line that matches has captured; None where none does.

        Raises:
            TooHard: it takes too long, or more memory than there is for it.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", Path(__file__).with_name("matcher.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            # It takes a moment to come up, and that is not the pattern's fault.
            self._ask(self._process, "", "", 10 * _MATCH_S)
        answer = self._ask(self._process, regex, text, _MATCH_S)
        if "trouble" in answer:
            raise TooHard(f"The pattern {regex!r} cannot be looked for: {answer['trouble']}.")
        found: dict[str, Any] | None = answer["found"]
        return found

    def _ask(
        self, process: subprocess.Popen[bytes], regex: str, text: str, within_s: float
    ) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        request = json.dumps({"regex": regex, "text": text}) + "\n"
        try:
            process.stdin.write(request.encode())
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], within_s)
            line = process.stdout.readline() if ready else b""
        except OSError:
            line = b""
        if not line:
            self.close()
            raise TooHard(
                f"The pattern {regex!r} took more than {within_s:.0f} s, or its process ended. "
                "Use one that does not try every way to split a line."
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # What was not read by it is of no use any more.
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process = None
