"""A network between two parties that a test can cut: bytes stop, connections stay open."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Proxy:
    """Carries TCP connections from a separate port to where `upstream` says."""

    def __init__(self, upstream: Callable[[], tuple[str, int]], address: str = "127.0.0.1") -> None:
        """`address`: where it listens."""
        self._upstream = upstream
        self._flows = threading.Event()
        self._flows.set()
        self._closed = False
        self._server = socket.create_server((address, 0))
        self.port = int(self._server.getsockname()[1])
        self._sockets: list[socket.socket] = [self._server]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Let nothing through any more."""
        self._flows.clear()

    def heal(self) -> None:
        """Let everything through again, also what was held."""
        self._flows.set()

    def close(self) -> None:
        """Close every connection, and join."""
        self._closed = True
        self._flows.set()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._server.accept()
                try:
                    theirs = socket.create_connection(self._upstream())
                except OSError:
                    ours.close()
                    continue
                self._sockets += [ours, theirs]
                for source, target in ((ours, theirs), (theirs, ours)):
                    thread = threading.Thread(target=self._carry, args=(source, target))
                    self._threads.append(thread)
                    thread.start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                if self._closed:
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
