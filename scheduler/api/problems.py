"""Errors as problem details (RFC 9457), always with `detail`: the published client needs it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import redis
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from scheduler.api.patterns import RULES
from scheduler.objects.archive import ArchivesBusy
from scheduler.objects.base import NoSuchObject, PathTaken, StorageUnavailable
from scheduler.services import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

log = logging.getLogger(__name__)

_CODES: dict[type[errors.ServiceError], int] = {
    errors.Forbidden: 403,
    errors.QuotaExceeded: 403,
    errors.ResourceNotFound: 404,
    errors.Conflict: 409,
    errors.Invalid: 422,
    errors.TooLarge: 413,
    errors.TooManyRequests: 429,
    errors.GatewayTimeout: 503,
}
_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    422: "Invalid field",
    429: "Too many",
    500: "Internal error",
    503: "Not available",
}


def problem(
    request: Request, status: int, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """The response for an error."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "request_id": getattr(request.state, "request_id", None),
    }
    return JSONResponse(body, status, headers, media_type="application/json")


def install(app: FastAPI) -> None:
    """Have the application respond to every error this way."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


def response_to(request: Request, error: Exception) -> JSONResponse:
    """The response for an error that is raised outside of the application's routes."""
    handlers = (_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS)
    return next(handlers)(request, error)


def _refused(request: Request, error: Exception) -> JSONResponse:
    code = next((c for kind, c in _CODES.items() if isinstance(error, kind)), 400)
    # Clients may try again later.
    headers = {"Retry-After": "30"} if code == 503 else None
    return problem(request, code, str(error), headers)


def _no_object(request: Request, error: Exception) -> JSONResponse:
    return problem(request, 404, f"path: nothing is stored at {str(error)!r}.")


def _path_taken(request: Request, error: Exception) -> JSONResponse:
    return problem(request, 409, f"path: {error}. Choose another path, or remove what is there.")


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(request, error.status_code, str(error.detail), dict(error.headers or {}))


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    parts = []
    for row in error.errors()[:10]:
        where = ".".join(str(p) for p in row["loc"] if p not in {"body", "query", "path"})
        given = repr(row.get("input"))[:200]
        parts.append(f"{where or 'body'}: {_rule(row)}; given was {given}")
    return problem(request, 422, ". ".join(parts) + ".")


def _rule(row: dict[str, Any]) -> str:
    """Return the rule of a field, for some patterns in words."""
    pattern = str(row.get("ctx", {}).get("pattern"))
    return RULES.get(pattern, str(row["msg"]))


def _unavailable(request: Request, error: Exception) -> JSONResponse:
    log.error("event=dependency_down path=%s error=%s", request.url.path, error)
    detail = "A part that this needs is out of reach just now. Try again in some seconds."
    return problem(request, 503, detail, {"Retry-After": "5"})


def _busy(request: Request, error: Exception) -> JSONResponse:
    detail = "path: the server reads as many archives as it can at one time. Try again."
    return problem(request, 503, detail, {"Retry-After": "2"})


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    request_id = getattr(request.state, "request_id", None)
    text = "event=unexpected path=%s request_id=%s"
    log.exception(text, request.url.path, request_id, exc_info=error)
    detail = "The server failed. The log has the cause under this request id."
    return problem(request, 500, detail)


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], JSONResponse]] = {
    errors.ServiceError: _refused,
    NoSuchObject: _no_object,
    PathTaken: _path_taken,
    HTTPException: _http,
    RequestValidationError: _invalid,
    redis.RedisError: _unavailable,
    OperationalError: _unavailable,
    StorageUnavailable: _unavailable,
    ArchivesBusy: _busy,
    Exception: _unexpected,
}
