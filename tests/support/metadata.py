"""The metadata services of three clouds, and a plain URL, imitated over real HTTP."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

HTML = "<html><body>Sign in to the network</body></html>"


class Metadata:
    """One server with all services, and what they say; `with` starts and ends it.

    A fault makes every answer: `hang` (none), `dribble` (a byte now and then, for ever), `500`,
    `html` (200 with a page), `junk` (200 with half a JSON), `long`, `cut` (closed without one),
    `redirect`.
    """

    def __init__(self) -> None:
        #: "GET /path", in the order of their coming.
        self.asked: list[str] = []
        self.fault: str | None = None
        #: The faults of single paths.
        self.faults: dict[str, str] = {}
        #: AWS: the tokens that are good, what instance-action and rebalance say.
        self.tokens: set[str] = set()
        self.tokens_given = 0
        self.ttl_s = 21600
        self.action: dict[str, Any] | None = None
        self.rebalance: dict[str, Any] | None = None
        #: GCP.
        self.preempted = "FALSE"
        self.flavor = True
        #: Azure.
        self.vm = "worker-1"
        self.events: Any = []
        #: The plain URL: None is 404.
        self.plain: tuple[int, str] | None = None
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"told": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Metadata:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, start: str) -> int:
        """How many requests began like that."""
        return sum(line.startswith(start) for line in self.asked)


class _Handler(BaseHTTPRequestHandler):
    told: Metadata

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_PUT(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        path = urlsplit(self.path).path
        self.told.asked.append(f"{self.command} {self.path}")
        fault = self.told.faults.get(path, self.told.fault)
        # Who has given a request up is not there for the answer.
        with contextlib.suppress(ConnectionError):
            if fault is not None:
                self._fail(fault)
            elif path.startswith("/latest/"):
                self._aws(path)
            elif path.startswith("/computeMetadata/"):
                self._gcp(path)
            elif path.startswith("/metadata/"):
                self._azure(path)
            elif self.told.plain is None:
                self._answer(404, "no such page")
            else:
                self._answer(*self.told.plain)

    def _fail(self, fault: str) -> None:
        answers: dict[str, Callable[[], None]] = {
            "hang": self._hang,
            "dribble": self._dribble,
            "500": lambda: self._answer(500, "Internal Server Error"),
            "html": lambda: self._answer(200, HTML, {"Metadata-Flavor": "Google"}),
            "junk": lambda: self._answer(200, '{"action": ', {"Metadata-Flavor": "Google"}),
            "long": lambda: self._answer(200, "x" * 10_000_000),
            "cut": lambda: None,
            "redirect": lambda: self._answer(302, "", {"Location": self.told.url + "/plain"}),
        }
        self.close_connection = True
        answers[fault]()

    def _hang(self) -> None:
        self.told.closing.wait()

    def _dribble(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.told.closing.wait(0.02):
            self.wfile.write(b"x")

    def _answer(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if status != 204:
            self.wfile.write(data)

    def _aws(self, path: str) -> None:
        told = self.told
        if path == "/latest/api/token":
            asked = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if self.command != "PUT":
                self._answer(405, "")
            elif "X-Forwarded-For" in self.headers:
                self._answer(403, "")
            elif not asked.isdigit() or not 1 <= int(asked) <= 21600:
                self._answer(400, "")
            else:
                told.tokens_given += 1
                token = f"AQAEAHhOBq-token_{told.tokens_given}=="
                told.tokens.add(token)
                ttl = {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": str(told.ttl_s)}
                self._answer(200, token, ttl)
            return
        if self.headers.get("X-aws-ec2-metadata-token") not in told.tokens:
            self._answer(401, "401 - Unauthorized")
            return
        said = {
            "/latest/meta-data/spot/instance-action": told.action,
            "/latest/meta-data/events/recommendations/rebalance": told.rebalance,
        }.get(path)
        if said is None:
            self._answer(404, "<?xml version='1.0'?><html><title>404 - Not Found</title></html>")
        else:
            self._answer(200, json.dumps(said))

    def _gcp(self, path: str) -> None:
        if self.headers.get("Metadata-Flavor") != "Google":
            self._answer(403, "Missing Metadata-Flavor:Google header.")
        elif path != "/computeMetadata/v1/instance/preempted":
            self._answer(404, "")
        else:
            flavor = {"Metadata-Flavor": "Google"} if self.told.flavor else {}
            self._answer(200, self.told.preempted, flavor)

    def _azure(self, path: str) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if self.headers.get("Metadata") != "true" or "api-version" not in query:
            self._answer(400, '{"error": "Bad request. Required metadata header not specified"}')
        elif path == "/metadata/scheduledevents" and query["api-version"] == ["2020-07-01"]:
            told = {"DocumentIncarnation": 1, "Events": self.told.events}
            self._answer(200, json.dumps(told))
        elif path == "/metadata/instance/compute/name" and query.get("format") == ["text"]:
            self._answer(200, self.told.vm)
        else:
            self._answer(404, "")


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now
