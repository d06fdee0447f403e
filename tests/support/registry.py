"""A container registry that serves tiny images, so that a pull is a real one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _layer(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        data = name.encode()
        info = tarfile.TarInfo("name")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Registry:
    """Has every image that it is asked for (Docker registry HTTP API v2); each holds a file."""

    def __enter__(self) -> Registry:
        self._blobs: dict[str, bytes] = {}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def image(self, name: str) -> str:
        """The full name of an image to pull."""
        return f"127.0.0.1:{self._server.server_address[1]}/{name}:1"

    def answer(self, request: Any) -> None:
        """Answer one request."""
        _, _, *path = request.path.split("/")
        kind, data = "application/octet-stream", b"{}"
        if "manifests" in path:
            kind, data = _MANIFEST, self._manifest("/".join(path[: path.index("manifests")]))
        elif "blobs" in path:
            data = self._blobs[path[-1]]
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.send_header("Docker-Content-Digest", _digest(data))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(data)

    def _manifest(self, name: str) -> bytes:
        layer = _layer(name)
        packed = gzip.compress(layer, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
                "history": [{"created_by": name}],
            }
        ).encode()
        self._blobs |= {_digest(config): config, _digest(packed): packed}

        def part(kind: str, data: bytes) -> dict[str, Any]:
            return {"mediaType": kind, "size": len(data), "digest": _digest(data)}

        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": part("application/vnd.docker.container.image.v1+json", config),
                "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", packed)],
            }
        ).encode()
