"""Having a process of its own look for patterns, for as long as that may take."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds of a processor's time that a pattern may take for one text.
_MATCH_S = 1.0
#: Seconds after which a machine that has not given the process that much has no time for it.
_ANSWER_S = 30.0
#: Seconds between two looks whether it is to be given up.
_GIVE_UP_S = 0.1
#: Bytes that are written or read at a time.
_BLOCK = 64 * 1024


class TooHard(Exception):
    """A pattern cannot be looked for; the message is for people."""


class TookTooLong(TooHard):
    """A pattern took more time than it may have, or its process ended over it."""


class NoTime(Exception):
    """There was no answer in time, which is not the pattern's fault."""


class RegexPool:
    """A process that looks for patterns, see `regex_worker.py`; started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def look(
        self, regex: str, text: str, give_up: Callable[[], bool] = lambda: False
    ) -> dict[str, Any] | None:
        """What the first line that matches has captured; None where none does.

        Raises:
            TookTooLong: it took too long.
            TooHard: it cannot be looked for, or needs more memory than there is for it.
            NoTime: `give_up` has said so, or the machine is too busy.
        """
        if give_up():
            raise NoTime
        asked = {"regex": regex, "text": text, "cpu_s": _MATCH_S}
        line = b""
        try:
            line = self._exchange(json.dumps(asked).encode() + b"\n", give_up)
        finally:
            # Who was not heard out would answer the next question with this one's answer.
            if not line:
                self.close()
        if not line:
            raise TookTooLong(
                f"The pattern {regex!r} took more than {_MATCH_S:g} s of a processor's time, or "
                "its process ended. Use one that does not try every way to split a line."
            )
        answer: dict[str, Any] = json.loads(line)
        if "trouble" in answer:
            raise TooHard(f"The pattern {regex!r} cannot be looked for: {answer['trouble']}.")
        found: dict[str, Any] | None = answer["found"]
        return found

    def _exchange(self, request: bytes, give_up: Callable[[], bool]) -> bytes:
        """The line that answers a request; empty where the process has ended. Raises NoTime."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        into, out = process.stdin.fileno(), process.stdout.fileno()
        left, line, until = memoryview(request), b"", time.monotonic() + _ANSWER_S
        while not line.endswith(b"\n"):
            if give_up() or time.monotonic() > until:
                raise NoTime
            ready, free, _ = select.select([out], [into] if left else [], [], _GIVE_UP_S)
            try:
                if free:
                    left = left[os.write(into, left[:_BLOCK]) :]
            except BrokenPipeError:
                return b""
            if ready:
                came = os.read(out, _BLOCK)
                if not came:
                    return b""
                line += came
        return line

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", Path(__file__).with_name("regex_worker.py")],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert self._process.stdin is not None
            # A process that does not read now must not hold who writes.
            os.set_blocking(self._process.stdin.fileno(), False)
        return self._process

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None
