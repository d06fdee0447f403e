"""Names in paths: a project's name may hold any character, also `/`, which is sent as `%2F`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor

from scheduler.api.asgi import HttpMiddleware

if TYPE_CHECKING:
    from scheduler.api.asgi import Receive, Scope, Send

#: Below these paths, routes see the path as it was sent, and decode names themselves.
_ENCODED = (b"/projects/",)


class _Name(Convertor[str]):
    """One percent-encoded segment of a path: `{name:name}`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        raise NotImplementedError("the routes are never asked for their URLs")


register_url_convertor("name", _Name())


class EncodedPathsMiddleware(HttpMiddleware):
    """Keeps some paths as they were sent: once decoded, `a%2Fb` would be two segments."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its path as it was sent."""
        raw: Any = scope.get("raw_path")
        if raw and raw.startswith(_ENCODED):
            scope["path"] = raw.partition(b"?")[0].decode("latin-1")
        await self.app(scope, receive, send)
