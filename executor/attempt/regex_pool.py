"""Matching patterns in a child process, within a limit of CPU time."""

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

#: Seconds of CPU time that a pattern may take for one text.
_MATCH_S = 1.0
#: Seconds after which the machine counts as too busy to give the process that time.
_ANSWER_S = 30.0
#: Seconds between two checks whether to give up.
_GIVE_UP_S = 0.1
#: Bytes that are written or read at a time.
_BLOCK = 64 * 1024


class TooHard(Exception):
    """A pattern cannot be matched; the message is for users."""


class TookTooLong(TooHard):
    """A pattern took too much CPU time, or its process ended."""


class NoTime(Exception):
    """There was no reply in time, and the pattern is not the cause."""


class RegexPool:
    """A process that runs `regex_worker.py`; started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def look(
        self, regex: str, text: str, give_up: Callable[[], bool] = lambda: False
    ) -> dict[str, Any] | None:
        """Return what the first matching line captured; None: no line matches.

        Raises:
            TookTooLong: matching took too long.
            TooHard: the pattern is invalid, or needs too much memory.
            NoTime: `give_up` returned True, or the machine is too busy.
        """
        if give_up():
            raise NoTime
        request = {"regex": regex, "text": text, "cpu_s": _MATCH_S}
        line = b""
        try:
            line = self._exchange(json.dumps(request).encode() + b"\n", give_up)
        finally:
            # Otherwise its late reply would be taken for the reply to the next request.
            if not line:
                self.close()
        if not line:
            raise TookTooLong(
                f"The pattern {regex!r} took more than {_MATCH_S:g} s of a processor's time, or "
                "its process ended. Use one that does not try every way to split a line."
            )
        reply: dict[str, Any] = json.loads(line)
        if "trouble" in reply:
            raise TooHard(f"The pattern {regex!r} cannot be looked for: {reply['trouble']}.")
        captured: dict[str, Any] | None = reply["found"]
        return captured

    def _exchange(self, request: bytes, give_up: Callable[[], bool]) -> bytes:
        """Return the reply to a request; empty if the process has ended. Raises NoTime."""
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
                data = os.read(out, _BLOCK)
                if not data:
                    return b""
                line += data
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
            # A process that does not read must not block the agent.
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
