"""Security headers on every response, as the OWASP Secure Headers Project recommends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.api.asgi import HttpMiddleware
from scheduler.objects.file_urls import ROUTE as FILES_ROUTE
from simherd.runtime.health import SECURITY_HEADERS

if TYPE_CHECKING:
    from scheduler.api.asgi import Application, Message, Receive, Scope, Send

#: Where FastAPI serves pages about the API, whose programs come from a CDN.
_PAGES = ("/docs", "/redoc")
_PAGES_CSP = (
    "default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; worker-src blob:; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com; img-src data: https://fastapi.tiangolo.com "
    "https://cdn.redoc.ly; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: A stored file is whatever a user has put there: a browser shall save it, and never run it.
_FILE_CSP = "default-src 'none'; sandbox; frame-ancestors 'none'"
#: A year, as the HSTS preload list asks for.
_HSTS = ("Strict-Transport-Security", "max-age=31536000")

Pairs = list[tuple[bytes, bytes]]


class SecurityHeaders(HttpMiddleware):
    """Adds the headers that a response does not set itself, on every response."""

    def __init__(self, app: Application, public_url: str) -> None:
        super().__init__(app)
        always = dict(SECURITY_HEADERS)
        if public_url.lower().startswith("https://"):
            always |= [_HSTS]
        self._usual = _pairs(always)
        self._page = _pairs(always | {"Content-Security-Policy": _PAGES_CSP})
        self._file = _pairs(
            always | {"Content-Security-Policy": _FILE_CSP, "Content-Disposition": "attachment"}
        )

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, and add to its response."""

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = self._added(scope["path"], message)
                missing = [pair for pair in added if pair[0] not in present]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        await self.app(scope, receive, respond)

    def _added(self, path: str, message: Message) -> Pairs:
        kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
        kind = kinds[0] if kinds else b""
        if path.startswith(_PAGES) and kind.startswith(b"text/html"):
            return self._page
        if path.startswith(FILES_ROUTE) or kind.startswith(b"application/octet-stream"):
            return self._file
        return self._usual


def _pairs(headers: dict[str, str]) -> Pairs:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
