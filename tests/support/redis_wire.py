"""A server that speaks Redis' protocol and answers by a script: for the executor's own verbs."""

from __future__ import annotations

import socketserver
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class RedisFault(Exception):
    """Sent as an error of Redis."""


class ScriptedRedis:
    """Keeps what it was sent, and answers what `reply` returns for a command and its arguments.

    `reply` returns None, a number, text, or a list or dict of these; what it raises as a
    RedisFault is an error of Redis. What a client sends by itself is not kept.
    """

    def __init__(self, reply: Callable[[str, list[str]], Any] = lambda _name, _args: 1) -> None:
        self.reply = reply
        self.commands: list[tuple[str, list[str]]] = []
        self.received = threading.Condition()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"redis://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ScriptedRedis:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, name: str, args: list[str]) -> bytes:
        """Return the reply to one command as it goes over the wire."""
        if name == "HELLO":
            return _encode({"proto": 3})
        if name == "PING":
            return b"+PONG\r\n"
        if name in {"CLIENT", "AUTH", "SELECT"}:
            return b"+OK\r\n"
        with self.received:
            self.commands.append((name, args))
            self.received.notify_all()
        try:
            return _encode(self.reply(name, args))
        except RedisFault as fault:
            return f"-{fault}\r\n".encode()

    def sent(self, name: str) -> list[list[str]]:
        """Return the arguments of each command of that name."""
        return [args for command, args in self.commands if command == name]

    def await_count(self, name: str, count: int) -> None:
        """Wait until a command of that name came so often."""
        with self.received:
            assert self.received.wait_for(lambda: len(self.sent(name)) >= count, 30), self.commands


def _handler(server: ScriptedRedis) -> type[socketserver.StreamRequestHandler]:
    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            while head := self.rfile.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(size + 2)[:-2].decode())
                self.wfile.write(server.answer(words[0].upper(), words[1:]))

    return Handler


def _encode(value: Any) -> bytes:
    if value is None:
        return b"_\r\n"
    if isinstance(value, int):
        return f":{value}\r\n".encode()
    if isinstance(value, dict):
        return f"%{len(value)}\r\n".encode() + b"".join(
            _encode(part) for pair in value.items() for part in pair
        )
    if isinstance(value, list):
        return f"*{len(value)}\r\n".encode() + b"".join(map(_encode, value))
    data = str(value).encode()
    return f"${len(data)}\r\n".encode() + data + b"\r\n"
