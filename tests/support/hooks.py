"""Servers that webhooks and e-mails go to."""

from __future__ import annotations

import contextlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from simherd.local.stack import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message


@dataclass(frozen=True)
class Call:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """Its body."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Hook:
    """A webhook's server; a test sets its response."""

    url: str
    calls: list[Call] = field(default_factory=list)
    #: The status it answers, and where to.
    status: int = 204
    location: str | None = None
    #: How it answers instead: is given the handler.
    manner: Callable[[BaseHTTPRequestHandler], None] | None = None
    #: Set when a caller has gone before it was answered.
    cut: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)

    def answers_without_end(self, handler: BaseHTTPRequestHandler) -> None:
        """Send until the caller goes."""
        handler.send_response(200)
        handler.end_headers()
        while not self.closed.is_set():
            handler.wfile.write(b"x" * 65536)

    def answers_byte_by_byte(self, handler: BaseHTTPRequestHandler) -> None:
        """Send a byte of the header now and then."""
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
            if self.closed.wait(0.2):
                return
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()

    def answers_never(self, handler: BaseHTTPRequestHandler) -> None:
        """Wait for the caller to go."""
        if handler.rfile.read(1) == b"":
            raise ConnectionResetError


@contextmanager
def hook_server() -> Iterator[Hook]:
    """A webhook's server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take a call."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.calls.append(Call(self.path, dict(self.headers), body))
            if hook.manner is not None:
                try:
                    hook.manner(self)
                except OSError:
                    hook.cut.set()
                return
            self.send_response(hook.status)
            if hook.location is not None:
                self.send_header("Location", hook.location)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = Hook(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hook
    finally:
        hook.closed.set()
        server.shutdown()
        thread.join()
        with contextlib.suppress(OSError):
            server.server_close()


@dataclass
class Mailbox:
    """A mail server's messages."""

    port: int
    messages: list[Message] = field(default_factory=list)


@contextmanager
def mail_server(user: str | None = None, password: str = "") -> Iterator[Mailbox]:
    """A mail server on this machine, without encryption; with `user` it wants a login."""
    box = Mailbox(free_port())

    class Handler:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            """Take a message."""
            from email import message_from_bytes, policy

            box.messages.append(message_from_bytes(envelope.content, policy=policy.default))
            return "250 OK"

    def allowed(_server: Any, _session: Any, _envelope: Any, _how: str, given: Any) -> AuthResult:
        good = (given.login, given.password) == ((user or "").encode(), password.encode())
        return AuthResult(success=good, handled=False)

    login: dict[str, Any] = {}
    if user is not None:
        login = {"authenticator": allowed, "auth_required": True, "auth_require_tls": False}
    controller = Controller(
        Handler(), hostname="127.0.0.1", port=box.port, ready_timeout=60, **login
    )
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
