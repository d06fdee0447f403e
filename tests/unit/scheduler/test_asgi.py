"""The base of middleware, and what wraps every request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from scheduler.api.app import RequestId
from scheduler.api.asgi import HttpMiddleware
from scheduler.api.edge.headers import SecurityHeaders
from scheduler.api.middleware.encoded_paths import EncodedPathsMiddleware

if TYPE_CHECKING:
    from scheduler.api.asgi import Application, Message, Receive, Scope, Send


def _run(app: Application, scope: dict[str, Any]) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nothing is received")

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await app(scope, receive, send)

    asyncio.run(run())
    return sent


def _http(path: str = "/x") -> dict[str, Any]:
    return {"type": "http", "path": path, "raw_path": path.encode(), "headers": []}


def _responding(headers: list[tuple[bytes, bytes]] | None = None) -> Application:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": headers or []}
        await send({**start, "path": scope.get("path")})

    return app


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_a_scope_that_is_not_http_is_passed_on_unchanged(kind: str) -> None:
    class Refusing(HttpMiddleware):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            raise AssertionError("only HTTP is handled")

    assert len(_run(Refusing(_responding()), {"type": kind})) == 1
    with pytest.raises(AssertionError):
        _run(Refusing(_responding()), _http())


def test_the_base_passes_requests_on() -> None:
    assert len(_run(HttpMiddleware(_responding()), _http())) == 1


def test_every_request_gets_another_id_in_its_response() -> None:
    app = RequestId(_responding([(b"a", b"b")]))
    first, second = (dict(_run(app, _http())[0]["headers"]) for _ in range(2))
    assert first[b"a"] == b"b"
    assert len({first[b"x-request-id"], second[b"x-request-id"]}) == 2


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("/projects/a%2Fb", "/projects/a%2Fb"),
        ("/projects/a?b=c", "/projects/a"),
        ("/tasks/a%2Fb", "/tasks/a/b"),
    ],
)
def test_only_paths_of_named_things_keep_their_encoding(raw: str, seen: str) -> None:
    scope = {**_http("/tasks/a/b"), "raw_path": raw.encode()}
    assert _run(EncodedPathsMiddleware(_responding()), scope)[0]["path"] == seen


@pytest.mark.parametrize(("url", "has_hsts"), [("https://x", True), ("http://x", False)])
def test_only_a_server_behind_tls_asks_for_tls(url: str, has_hsts: bool) -> None:
    (start,) = _run(SecurityHeaders(_responding(), url), _http())
    names = {name for name, _ in start["headers"]}
    assert (b"strict-transport-security" in names) == has_hsts


def test_a_responses_own_header_is_kept() -> None:
    own = [(b"X-Content-Type-Options", b"own")]
    (start,) = _run(SecurityHeaders(_responding(own), ""), _http())
    values = [v for n, v in start["headers"] if n.lower() == b"x-content-type-options"]
    assert values == [b"own"]
