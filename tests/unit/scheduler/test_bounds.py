"""Whatever a request may hold has bounds, and the OpenAPI document says them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from scheduler.api.strict import StrictRoute
from scripts.pages.http_reference import openapi, reference_app
from tests.support.openapi import operations, resolved

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Fields without bounds, each with the reason why that does no harm.
UNBOUNDED: dict[str, str] = {
    "GroupBody.policy.*": "free values: `Policy.read` checks each, and the body's size is bounded",
    "TaskRequest.extra_params.*": "free values: `TaskOptions.read` checks those that we use",
    "KeyedRequest.extra_params.*": "free values: `TaskOptions.read` checks those that we use",
}


def test_every_number_text_and_list_of_a_request_has_bounds() -> None:
    document = openapi()
    found = sorted(
        where
        for operation in operations(document)
        for where in (
            *(
                w
                for p in operation.parameters
                for w in _unbounded(document, p["schema"], f"{operation.name} {p['name']}")
            ),
            *(_unbounded(document, operation.body, operation.name) if operation.body else ()),
        )
        if where not in UNBOUNDED
    )
    assert not found, (
        "These fields or parameters have no bounds. Give each a type of scheduler/api/bounded.py "
        "or a Field with le, ge, max_length; where it needs none, list it in UNBOUNDED with the "
        "reason:\n" + "\n".join(dict.fromkeys(found))
    )


def _unbounded(document: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
    """The places below a schema that have no bounds."""
    if "$ref" in schema:
        where = schema["$ref"].rpartition("/")[2]
        schema = resolved(document, schema)
    if schema.keys() & {"enum", "const"}:
        return
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _unbounded(document, choice, where)
    kind = schema.get("type")
    if kind is None and not schema.keys() & {"anyOf", "oneOf"}:
        yield where
    if kind in {"integer", "number"}:
        least, most = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
        if not (schema.keys() & least and schema.keys() & most):
            yield where
    if kind == "string" and "maxLength" not in schema and schema.get("format") != "date-time":
        yield where
    if kind == "array":
        if "maxItems" not in schema:
            yield where
        for inner in (*schema.get("prefixItems", ()), *filter(None, [schema.get("items")])):
            yield from _unbounded(document, inner, f"{where}[]")
    for name, inner in schema.get("properties", {}).items():
        yield from _unbounded(document, inner, f"{where}.{name}")
    if kind == "object" and "properties" not in schema:
        if "maxProperties" not in schema:
            yield where
        inner = schema.get("additionalProperties", {})
        yield from _unbounded(document, {} if inner is True else inner, f"{where}.*")


#: Bodies that may have fields which nobody knows, each with the reason.
LENIENT = {
    "GroupBody": "the published client sends fields of its own service",
    "ProjectRequest": "the published client's contract",
    "ProjectUpdate": "the published client's contract",
    "UploadPart": "the published client's contract",
    "CreditsTrigger": "refused whole, whatever is in it",
}


@pytest.mark.fault("B3")
def test_b3_a_field_that_is_not_known_is_refused() -> None:
    document = openapi()
    schemas = document["components"]["schemas"]
    lenient = {
        name
        for operation in operations(document)
        if operation.body is not None
        for name in _models(document, operation.body)
        if schemas[name].get("additionalProperties") is not False
    }
    assert lenient == LENIENT.keys(), (
        "give these models ConfigDict(extra='forbid'), or list them in LENIENT with the reason"
    )


def _models(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """The models that a body is made of."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    schema = resolved(document, schema)
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    inner += [*schema.get("oneOf", ()), *filter(None, [schema.get("items")])]
    for one in inner:
        yield from _models(document, one)


def test_every_route_reads_strictly() -> None:
    routes = [
        route
        for context in iter_route_contexts(reference_app().routes)
        if isinstance(route := context.original_route, APIRoute)
    ]
    assert len(routes) > 100
    lax = [route.path for route in routes if not isinstance(route, StrictRoute)]
    assert not lax, f"{lax}: make their router with scheduler.api.strict.StrictRouter"


def test_errors_are_described_as_problems() -> None:
    for operation in operations(openapi()):
        answers = operation.described["responses"]
        assert "4XX" in answers, operation.name
        assert "422" not in answers, operation.name
