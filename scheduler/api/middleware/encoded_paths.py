"""Names within paths: a project's name may hold any character, `/` too, which comes as `%2F`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor

if TYPE_CHECKING:
    from scheduler.api.app import Application, Receive, Scope, Send

#: Below these paths routes see what was sent, and decode names themselves.
_ENCODED = (b"/projects/",)


class _Name(Convertor[str]):
    """One percent-encoded segment of a path: `{name:name}`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        raise NotImplementedError("the routes are never asked for their URLs")


register_url_convertor("name", _Name())


class EncodedPathsMiddleware:
    """Keeps the paths of named things as they were sent: decoded first, `a%2Fb` is two segments."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        raw: Any = scope.get("raw_path")
        if scope["type"] == "http" and raw and raw.startswith(_ENCODED):
            scope["path"] = raw.partition(b"?")[0].decode("latin-1")
        await self._app(scope, receive, send)
