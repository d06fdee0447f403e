"""Rules for requests of all routes: strict JSON, bounded parameters.

Every router of the API is a `StrictRouter`; a test fails on a route that is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.routing import APIRoute

from scheduler.api.json_body import REFUSED_CHARACTERS, BadJson, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from fastapi import Response

#: Longest parameter of a path, query or header with its name, characters: a webhook's URL is the
#: longest that is needed, percent-encoded.
MAX_PARAMETER_CHARACTERS = 8192

#: Where a parameter is, in a request and in the OpenAPI document, and the status for one that is
#: too long: an object with such a name cannot exist.
_TOO_LONG = {"path": 404, "query": 422, "header": 400}


class StrictRequest(Request):
    """A request whose body is read by `json_body.parse`."""

    async def json(self) -> Any:
        """The body's value. Raises HTTPException, status 400."""
        if not hasattr(self, "_json"):
            try:
                self._json = parse(await self.body())
            except BadJson as error:
                raise HTTPException(400, f"body: {error}.") from error
        return self._json


class StrictRoute(APIRoute):
    """A route that checks its parameters before anything else sees them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()
        headers = frozenset(p.alias.lower() for p in self.dependant.header_params)

        async def strict(request: Request) -> Response:
            _check("path", request.path_params.items())
            _check("query", request.query_params.multi_items())
            _check("header", ((n, v) for n, v in request.headers.items() if n in headers))
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


class StrictRouter(APIRouter):
    """A router all of whose routes are strict."""

    def __init__(self, **options: Any) -> None:
        """See `APIRouter`."""
        super().__init__(route_class=StrictRoute, **options)


def _check(where: str, given: Any) -> None:
    for name, value in given:
        text = f"{name}{value}"
        if len(text) > MAX_PARAMETER_CHARACTERS:
            raise HTTPException(
                _TOO_LONG[where],
                f"{name[:80]}: this {where} parameter is longer than "
                f"{MAX_PARAMETER_CHARACTERS} characters.",
            )
        if REFUSED_CHARACTERS.search(text):
            raise HTTPException(400, f"{name[:80]!r}: this {where} parameter has a NUL character.")


def bounded_document(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with the bounds that hold for every parameter, and how errors look."""
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components["Problem"] = _PROBLEM
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                _bound(parameter["schema"])
            operation["responses"].pop("422", None)
            operation["responses"]["4XX"] = _ERROR
    return document


def _bound(schema: dict[str, Any]) -> None:
    """Add the longest text that a parameter may be, where the schema has no bound."""
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])):
        _bound(inner)
    if schema.get("type") == "string" and not schema.keys() & {"enum", "const", "format"}:
        schema.setdefault("maxLength", MAX_PARAMETER_CHARACTERS)


_PROBLEM: Mapping[str, Any] = {
    "title": "Problem",
    "description": "An error (RFC 9457): `detail` names the field and says what to do.",
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
    },
}
_ERROR: Mapping[str, Any] = {
    "description": (
        "The request was refused: 400 for what cannot be read, 401 and 403 for who asks, 404 for "
        "what is not there or not theirs, 409 for what does not fit the state, 413 for what is too "
        "large, 422 for a field outside its bounds, 429 for too many requests."
    ),
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
