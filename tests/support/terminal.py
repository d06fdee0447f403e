"""A program on a separate terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path


class Terminal:
    """`simherd` as somebody types it, on a terminal of so many columns."""

    def __init__(
        self, arguments: list[str], folder: Path, environment: dict[str, str], columns: int = 80
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        told = {k: v for k, v in environment.items() if k not in {"COLUMNS", "LINES"}}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simherd.cli.main", *arguments],
            cwd=folder,
            env={**told, "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            # Its own session, whose terminal this is: so Ctrl-C reaches it as it does anybody.
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self._seen = b""

    def seen(self) -> str:
        """All that it has shown so far."""
        while True:
            try:
                piece = os.read(self._master, 65536)
            except BlockingIOError:
                break
            except OSError:  # it has ended
                break
            if not piece:
                break
            self._seen += piece
        return self._seen.decode(errors="replace")

    def shows(self, text: str, times: int = 1) -> str:
        """Wait until it has shown a text; return all that it has."""
        until(lambda: self.seen().count(text) >= times, what=f"{text!r} on the terminal")
        return self.seen()

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._master, text.encode())

    def ends(self) -> tuple[int, str]:
        """Wait until it has ended; its exit code, and all that it has shown."""
        until(lambda: self.seen() is not None and self._process.poll() is not None, what="its end")
        shown = self.seen()
        os.close(self._master)
        return self._process.returncode, shown
