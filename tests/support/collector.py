"""A collector of traces: it takes OTLP over HTTP, and keeps the spans."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Received:
    """What a collector has received."""

    def __init__(self, url: str) -> None:
        #: The endpoint that is set.
        self.url = url
        self.spans: list[Span] = []
        #: What it answers.
        self.code = 200

    def of(self, trace_id: str) -> list[Span]:
        """The spans of one trace, in the order of their beginnings."""
        found = [span for span in list(self.spans) if span.trace_id.hex() == trace_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


@contextmanager
def collector() -> Iterator[Received]:
    """A collector on a separate port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            if received.code == 200:
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        received.spans.extend(scope.spans)
            self.send_response(received.code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Received(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(of: Any) -> dict[str, Any]:
    """The attributes of a span or of an event of one."""
    values = {}
    for pair in of.attributes:
        kind = pair.value.WhichOneof("value")
        values[pair.key.removeprefix("simherd.")] = getattr(pair.value, kind)
    return values
