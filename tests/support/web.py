"""A web server as users name it in URLs: it serves files, and does as its paths say."""

from __future__ import annotations

import contextlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes after which `/cut/…` breaks a connection off.
CUT_BYTES = 10_000_000


class Web:
    """Files by name, and the requests that came: method, path and range.

    `/plain/NAME` knows no ranges, `/cut/NAME` breaks off the first time, `/to/NAME` leads to
    `/files/NAME`, `/inside` to an inner address, `/status/CODE` answers that, `/drip/NAME` a byte
    of the header now and then, `/long/BYTES` that there is so much, `/range/BYTES` that it begins
    with the first byte of so many; a PUT of a part is kept under its path.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.stored: dict[str, bytes] = {}
        self.cuts: set[str] = set()
        #: What follows the path in a part's ETag.
        self.etag_end = ""
        #: Set when the server is closed.
        self.closed = threading.Event()

    def starts(self, name: str) -> list[int]:
        """Where the answers to requests for a file had to begin."""
        ranges = [r for _, path, r in self.asked if path.endswith(f"/{name}")]
        return [int(r.removeprefix("bytes=").rstrip("-") or 0) for r in ranges]


@contextmanager
def web_server() -> Iterator[Web]:
    """One on a free port of 127.0.0.1."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.web = Web(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Handler.web
    finally:
        Handler.web.closed.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self) -> None:
        """Serve a file, or do as the path says."""
        path = urlsplit(self.path).path
        self.web.asked.append(("GET", path, self.headers.get("Range", "")))
        what, _, name = path.strip("/").partition("/")
        if what == "status":
            self._answer(int(name))
        elif what == "long":
            self._answer(200, {"Content-Length": name})
        elif what == "range":
            self._answer(206, {"Content-Range": f"bytes 0-0/{name}", "Content-Length": "1"})
        elif what == "drip":
            self._drip()
        elif what in {"to", "inside"}:
            self._lead(f"/files/{name}" if what == "to" else "http://169.254.169.254/latest")
        elif name in self.web.files:
            self._serve(what, name)
        else:
            self._answer(404)

    def _answer(self, code: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {"Content-Length": "0"}).items():
            self.send_header(name, value)
        self.end_headers()

    def _drip(self) -> None:
        with contextlib.suppress(ConnectionError):
            for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                if self.web.closed.wait(0.1):
                    return
                self.wfile.write(bytes([byte]))

    def _lead(self, to: str) -> None:
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def _serve(self, what: str, name: str) -> None:
        data, version = self.web.files[name], f'"{self.web.versions.get(name, "1")}"'
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), int(last) + 1 if last else len(data)
        if what == "plain" or self.headers.get("If-Range", version) != version:
            start, end = 0, len(data)
        part = (start, end) != (0, len(data))
        self.send_response(206 if part else 200)
        if part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("ETag", version)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if what == "cut" and name not in self.web.cuts:
            self.web.cuts.add(name)
            end = CUT_BYTES
        with contextlib.suppress(ConnectionError):  # who has enough hangs up
            self.wfile.write(data[start:end])

    def do_PUT(self) -> None:
        """Keep a part."""
        path = urlsplit(self.path).path
        self.web.asked.append(("PUT", path, ""))
        self.web.stored[path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("ETag", f'"{path}{self.web.etag_end}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        """Keep what completes an upload; `/error…` says so after a 200, as S3 may."""
        path = urlsplit(self.path).path
        self.web.stored[path] = self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<Error><Code>InternalError</Code></Error>" if path.startswith("/error") else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
