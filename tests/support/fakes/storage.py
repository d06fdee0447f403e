"""An object storage and the scheduler's part of an upload, in memory, below the real client."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from simherd.contract.upload_grant import Grant

if TYPE_CHECKING:
    from collections.abc import Callable

_HOST = "http://storage"
#: The grant of every attempt here.
GRANT = Grant(f"{_HOST}/grant", "secret")


def url_of(name: str) -> str:
    """Where an object is read and written."""
    return f"{_HOST}/objects/{name}"


@dataclass
class FakeStorage:
    """Objects by name; `client` is what a TransferClient takes."""

    objects: dict[str, bytes] = field(default_factory=dict)
    #: Newest first.
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    #: Uploads in parts that are open: id → part → bytes.
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    #: How often each object was stored whole, or made from its parts.
    stored: Counter[str] = field(default_factory=Counter)
    #: Object or verb → the status that it is refused with.
    refused: dict[str, int] = field(default_factory=dict)
    #: Called with an object's or a verb's name before it is served.
    on_request: Callable[[str], None] | None = None

    def client(self) -> httpx.Client:
        """Connections to it."""
        return httpx.Client(transport=httpx.MockTransport(self._serve))

    def _serve(self, request: httpx.Request) -> httpx.Response:
        _, kind, *rest = request.url.path.split("/")
        name = "/".join(rest)
        if self.on_request is not None:
            self.on_request(name)
        if name in self.refused:
            return httpx.Response(self.refused[name], text="refused")
        if kind == "grant":
            return self._ask(name, json.loads(request.read()))
        if request.method == "PUT":
            return self._put(name, request.read())
        if name not in self.objects:
            return httpx.Response(404, text=f"no object {name}")
        return httpx.Response(200, content=self.objects[name])

    def _put(self, name: str, data: bytes) -> httpx.Response:
        kind, _, rest = name.partition("/")
        if kind == "part":
            upload, number = rest.split("/")
            self.uploads[upload][int(number)] = data
            return httpx.Response(200, headers={"etag": number})
        self.objects[name] = data
        self.stored[name] += 1
        return httpx.Response(200)

    def _ask(self, verb: str, body: dict[str, Any]) -> httpx.Response:
        reply: Any = {}
        name = body.get("object", "")
        if verb == "urls":
            reply = {name: url_of(name) for name in body["objects"]}
        elif verb == "begin":
            upload = f"upload-{len(self.uploads) + 1}"
            self.uploads[upload] = {}
            reply = {"upload": upload}
        elif verb == "part":
            reply = {"url": url_of(f"part/{body['upload']}/{body['number']}")}
        elif verb == "complete":
            parts = self.uploads.pop(body["upload"])
            self.objects[name] = b"".join(parts[number] for number, _ in body["parts"])
            self.stored[name] += 1
            reply = {"size": len(self.objects[name])}
        elif verb == "abort":
            self.uploads.pop(body["upload"], None)
            self.aborted.append(body["upload"])
        elif verb == "stored":
            if name not in self.objects:
                return httpx.Response(404, text=f"no object {name}")
            reply = {"size": len(self.objects[name])}
        elif verb == "checkpoint":
            generation = len(self.checkpoints) + 1
            self.checkpoints.insert(0, {"generation": generation, "files": body["files"]})
            reply = {"generation": generation}
        elif verb == "checkpoints":
            reply = self.checkpoints
        elif verb == "drop":
            self.objects.pop(name, None)
        return httpx.Response(200, json=reply)
