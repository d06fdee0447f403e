"""Whether a process lives and what it can reach: the same pages in every process.

`/livez`, `/readyz` and `/metrics` are served from a separate thread, so that they respond about
the others also when those hang. The standard library alone: health checks import this again and
again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET, AF_INET6, SHUT_RDWR
from typing import TYPE_CHECKING, Any

from simherd.contract import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Seconds that what a process depends on has for an answer, and for which the answer is kept.
DEPENDENCY_S = 3.0
DEPENDENCY_KEPT_S = 1.0

log = logging.getLogger(__name__)

LIVE, READY, METRICS = "/livez", "/readyz", "/metrics"
#: The content type of `/metrics`.
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Where it is served, unless `SIMHERD_METRICS_HOST` says otherwise: it is for this machine alone.
HOST = "127.0.0.1"
#: On every response, unless it has its own: nothing of it is run, framed, kept, or named to others.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: Seconds that a client has for its request.
_REQUEST_S = 10.0


class Pulse:
    """Something that must go on: when it last did. For any thread."""

    def __init__(self, what: str) -> None:
        """`what`: a name for people, such as "The recorder's loop"."""
        self._what = what
        self._last = time.monotonic()
        self._thread: threading.Thread | None = None

    def kept_by(self, thread: threading.Thread) -> None:
        """From now on it goes on as long as this thread lives, which was started."""
        self._thread = thread

    def beat(self) -> None:
        """It has gone on."""
        self._last = time.monotonic()

    def trouble(self) -> str | None:
        """That it has not gone on for long, as a sentence; None while all is well."""
        if self._thread is not None and not self._thread.is_alive():
            return f"{self._what} has ended: its thread died."
        silent = time.monotonic() - self._last
        if silent < limits.SILENT_PROCESS_S:
            return None
        return f"{self._what} has not gone on for {silent:.0f} s."


@dataclass(frozen=True)
class Dependency:
    """What a process cannot work without. `check` returns a sentence when it is not well, or
    raises; `what` is said of one that raises or does not return in time."""

    what: str
    check: Callable[[], str | None]


class Dependencies:
    """Asks all of them side by side, for a bounded time. For any thread."""

    def __init__(self, named: Mapping[str, Dependency]) -> None:
        self._named = named
        self._lock = threading.Lock()
        self._questions: dict[str, _Question] = {}
        self._troubles: dict[str, str | None] = {}
        self._checked_at = float("-inf")

    def ask(self) -> dict[str, str | None]:
        """Name → why it is down, as a sentence, or None when it is well."""
        with self._lock:
            # Frequent requests must not load the dependencies.
            if time.monotonic() - self._checked_at > DEPENDENCY_KEPT_S:
                self._troubles = self._ask_now()
                self._checked_at = time.monotonic()
            return self._troubles

    def _ask_now(self) -> dict[str, str | None]:
        for name, dependency in self._named.items():
            before = self._questions.get(name)
            # One that hangs keeps its thread: there is never more than one for each.
            if before is None or not before.is_alive():
                self._questions[name] = _Question(dependency)
                self._questions[name].start()
        end = time.monotonic() + DEPENDENCY_S
        for question in self._questions.values():
            question.join(max(0.0, end - time.monotonic()))
        return {name: self._questions[name].result() for name in self._named}


class _Question(threading.Thread):
    def __init__(self, dependency: Dependency) -> None:
        super().__init__(name="health", daemon=True)
        self._dependency = dependency
        self._trouble: str | None = None

    def run(self) -> None:
        try:
            self._trouble = self._dependency.check()
        except Exception as error:
            # Its kind alone: the text may name addresses, and anybody may read the page.
            self._trouble = f"{self._dependency.what}: {type(error).__name__}."
            log.warning("event=dependency_down what=%r error=%s", self._dependency.what, error)

    def result(self) -> str | None:
        """Why it is down; None when it is well."""
        if self.is_alive():
            return f"{self._dependency.what} within {DEPENDENCY_S:.0f} s."
        return self._trouble


def readiness(troubles: Mapping[str, str | None]) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the body of `/readyz`."""
    down = any(troubles.values())
    checks = {name: trouble or "ok" for name, trouble in troubles.items()}
    return 503 if down else 200, {"status": "down" if down else "ok", "checks": checks}


@dataclass(frozen=True)
class Pages:
    """What is served."""

    #: Why the process is not live, as a sentence; None when it is.
    trouble: Callable[[], str | None]
    dependencies: Dependencies
    #: The text that Prometheus reads.
    metrics: Callable[[], bytes]

    def respond(self, path: str) -> tuple[int, str, bytes]:
        """The HTTP status, content type and body for a path."""
        if path == METRICS:
            return 200, _METRICS_TYPE, self.metrics()
        if path == LIVE:
            trouble = self.trouble()
            found = {"status": "ok"} if trouble is None else {"status": "down", "detail": trouble}
            return _json(200 if trouble is None else 503, found)
        if path == READY:
            return _json(*readiness(self.dependencies.ask()))
        detail = f"{path}: there are {LIVE}, {READY} and {METRICS}."
        return _json(404, {"detail": detail})


def _json(status: int, body: Mapping[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(body).encode() + b"\n"


@dataclass(frozen=True)
class HealthTarget:
    """A file in which a process with a free port says where its metrics are, in the form that
    Prometheus reads (`file_sd_configs`). `process`: its label there."""

    file: Path
    process: str

    def write(self, host: str, port: int) -> None:
        """Say it; the file is there whole or not at all."""
        shown = f"[{host}]" if ":" in host else host
        text = [{"targets": [f"{shown}:{port}"], "labels": {"process": self.process}}]
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(text) + "\n")
        new.replace(self.file)

    def read(self) -> tuple[str, int]:
        """Return host and port. Raises OSError or ValueError where the file has none."""
        ((target,),) = (entry["targets"] for entry in json.loads(self.file.read_text()))
        host, _, port = target.rpartition(":")
        return host.strip("[]"), int(port)


def executor_file(state_dir: Path, env: Mapping[str, str]) -> Path:
    """The file in which an executor writes its free port, see `HealthTarget`."""
    return Path(env.get("SIMHERD_METRICS_FILE") or state_dir / "metrics.json")


class Served:
    """The pages, served by a thread until `close`."""

    def __init__(self, host: str, port: int, pages: Pages, target: HealthTarget) -> None:
        """Listen; port 0 chooses a free one, see `target`. Raises OSError: the address cannot be
        listened on."""
        kind = _Server6 if ":" in host else _Server
        self._server = kind((host, port), _handler(pages))
        self._target = target if port == 0 else None
        if self._target is not None:
            self._target.write(host, int(self._server.server_address[1]))
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health-pages", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and join the thread."""
        with contextlib.suppress(OSError):
            # This wakes the thread, which else looks only twice a second whether it is to end.
            self._server.socket.shutdown(SHUT_RDWR)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self._target is not None:
            self._target.file.unlink(missing_ok=True)

    def leave_to_parent(self) -> None:
        """In a child made by a fork: close the socket, which this process does not serve."""
        self._server.socket.close()


class _Server(ThreadingHTTPServer):
    address_family = AF_INET
    daemon_threads = True


class _Server6(_Server):
    address_family = AF_INET6


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S
        server_version, sys_version = "Simherd", ""

        def do_GET(self) -> None:
            """Send a page."""
            status, kind, body = pages.respond(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def end_headers(self) -> None:
            """Send the head, of errors that the base class sends too."""
            for name, value in SECURITY_HEADERS.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing: somebody asks every few seconds."""

    return Handler
