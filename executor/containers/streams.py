"""The engine's attach stream: standard input one way, framed stdout and stderr the other."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.containers.logs import CappedLog

#: Bytes read or written at one time.
_CHUNK = 256 * 1024
#: One byte for the stream, three empty ones, four for the length of what follows.
_HEADER = struct.Struct(">BxxxL")
_STDERR = 2


class Frames:
    """Splits the stream into frames and writes each piece to its log as it arrives."""

    def __init__(self, stdout: CappedLog, stderr: CappedLog) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._target = stdout
        self._left = 0
        self._header = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes, which may end anywhere."""
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                self._target.write(piece)
                self._left -= len(piece)
                position += len(piece)
                continue
            missing = _HEADER.size - len(self._header)
            self._header += data[position : position + missing]
            position += missing
            if len(self._header) == _HEADER.size:
                stream, self._left = _HEADER.unpack(self._header)
                self._target = self._stderr if stream == _STDERR else self._stdout
                self._header = b""


def pump(sock: socket.socket, stdin: bytes, stdout: CappedLog, stderr: CappedLog) -> None:
    """Send `stdin` and close it, and write the output to the logs until the stream ends.

    Both at once, since a command may fill its output before it reads its input.
    Raises OSError when the connection breaks.
    """
    frames = Frames(stdout, stderr)
    to_send = memoryview(stdin)
    sock.setblocking(False)
    with selectors.DefaultSelector() as ready:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if to_send else 0)
        ready.register(sock, events)
        while True:
            for _, mask in ready.select():
                if mask & selectors.EVENT_WRITE:
                    to_send = _send(sock, to_send)
                    if not to_send:
                        ready.modify(sock, selectors.EVENT_READ)
                if mask & selectors.EVENT_READ:
                    data = sock.recv(_CHUNK)
                    if not data:
                        return
                    frames.feed(data)


def _send(sock: socket.socket, to_send: memoryview) -> memoryview:
    """Send some; shut down sending at the end, or when the command no longer reads."""
    try:
        to_send = to_send[sock.send(to_send[:_CHUNK]) :]
    except BlockingIOError:
        return to_send
    except OSError:
        to_send = to_send[:0]
    if not to_send:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
    return to_send
