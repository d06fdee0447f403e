"""The HTTP API's reference: `python -m scripts.pages.http_reference > docs/reference/http.md`."""

from __future__ import annotations

import warnings
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from scheduler.api.app import make_app
from scheduler.api.bounded import MAX_PAGE
from scheduler.api.edge.access import MAX_BATCH_BODY_BYTES, MAX_BODY_BYTES, MAX_EXPORT_BODY_BYTES
from scheduler.api.json_body import MAX_JSON_DEPTH, MAX_JSON_VALUES
from scheduler.api.strict import MAX_PARAMETER_CHARACTERS
from scheduler.config import Settings
from scheduler.objects.archive import MAX_ZIP_DIRECTORY_BYTES, MAX_ZIP_ENTRIES
from scheduler.wiring import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastapi import FastAPI

_HEAD = """\
# HTTP API

Made from the routes by `python -m scripts.pages.http_reference`. A server returns the same, with
every type and bound, at `/openapi.json`.

Requests and responses are JSON. Parameters are of the query, or of the body where there is one;
those with a `*` are needed. Every response carries `X-Request-Id`, and every error is a problem
(RFC 9457) with `title`, `status`, `detail` (a sentence that says what to do) and `request_id`. The
routes below `/v1` are Simherd's; all others follow what the published client of the public service
expects.
"""

#: What holds for every request, below the head.
_BOUNDS = f"""\
## Bounds

Every number, text and list of a request has bounds, which `/openapi.json` says. Besides them:

| What | Bound | Status |
|---|---|---|
| A JSON body | {MAX_BODY_BYTES // 1024**2} MiB; of a batch or a checkpoint \
{MAX_BATCH_BODY_BYTES // 1024**2} MiB, of an export \
{MAX_EXPORT_BODY_BYTES // 1024**2} MiB | 413 |
| Values in a body | {MAX_JSON_VALUES:,}, nested {MAX_JSON_DEPTH} deep | 400 |
| Texts in a body | UTF-8, no NUL character, no half of a surrogate pair | 400 |
| Numbers in a body | finite; integers of 64 bits | 400 |
| A name in an object | once | 400 |
| A parameter of the path, query or a header, with its name | \
{MAX_PARAMETER_CHARACTERS:,} characters, no NUL character | 404, 422, 400 |
| A page of a list | the first {MAX_PAGE:,} pages | 422 |
| A stored zip that is looked into | {MAX_ZIP_ENTRIES:,} entries, a directory of \
{MAX_ZIP_DIRECTORY_BYTES // 1024**2} MiB | 413 |

A field that is not known is refused with 422. Where the published client sends fields that this
server has no use for (`POST /compute/group`, `POST` and `PATCH` of projects, the parts of an
export), they are ignored; parameters of the query that are not known are ignored everywhere.
"""

#: Tag → its heading, in the order of the page.
_TAGS = {
    "tasks": "Tasks",
    "projects": "Projects",
    "storage": "Storage",
    "files": "Files behind signed URLs",
    "compute": "Machine groups",
    "catalogue": "What the server offers",
    "users": "The account",
    "events": "Events",
    "health": "The server",
    "attempts": "For executors: what belongs to an attempt",
    "machines": "For machines",
    "admin": "For operators",
}
_METHODS = ("get", "head", "post", "put", "patch", "delete")
#: Header that is asked for → who may ask.
_WHO = {
    "x-api-key": "A user's key goes into `X-API-Key`.",
    "authorization": "The attempt's own key goes into `Authorization: Bearer`.",
    "X-Machine-Secret": "The secret of a machine that has joined goes beside its `X-Machine-Id`.",
}


def page() -> str:
    """The whole page, as Markdown."""
    described = openapi()
    by_tag: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for path, methods in described["paths"].items():
        for method in sorted(methods, key=_METHODS.index):
            (tag,) = methods[method]["tags"]
            by_tag[tag].append((f"{method.upper()} {path}", methods[method]))
    sections = [
        line
        for tag in sorted(by_tag, key=list(_TAGS).index)
        for line in _section(_TAGS[tag], by_tag[tag], described["components"]["schemas"])
    ]
    return "\n".join([_HEAD, _BOUNDS, *sections])


@cache
def reference_app() -> FastAPI:
    """The application, whose routes are described without what they work on."""
    redis, database = SecretStr("redis://localhost"), SecretStr("sqlite://")
    return make_app(Runtime(Settings.model_construct(redis_url=redis, database_url=database)))


def openapi() -> dict[str, Any]:
    """The OpenAPI document."""
    with warnings.catch_warnings():
        # A route for two methods has one name for both; no program is generated from this.
        warnings.filterwarnings("ignore", "Duplicate Operation ID")
        return reference_app().openapi()


def _section(
    heading: str, operations: list[tuple[str, Any]], schemas: Mapping[str, Any]
) -> Iterator[str]:
    yield f"## {heading}\n"
    whos = {name: _who(operation) for name, operation in operations}
    yield from sorted({who for who in whos.values() if who})
    bare = [f"`{name}`" for name, who in whos.items() if not who]
    if bare:
        yield "No key is needed." if len(bare) == len(whos) else f"No key: {', '.join(bare)}."
    yield "\n| Request | What it does | Parameters |\n|---|---|---|"
    for name, operation in operations:
        said = " ".join(operation["description"].split("\n\n")[0].split()).replace("|", "\\|")
        yield f"| `{name}` | {said} | {', '.join(_parameters(operation, schemas))} |"
    yield ""


def _who(operation: Mapping[str, Any]) -> str:
    headers = [p["name"] for p in operation.get("parameters", []) if p["in"] == "header"]
    return next((said for name, said in _WHO.items() if name in headers), "")


def _parameters(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            yield _named(parameter["name"], parameter["required"])
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref")
    if reference:
        body = schemas[reference.rpartition("/")[2]]
        for name in body.get("properties", {}):
            yield _named(name, name in body.get("required", []))


def _named(name: str, needed: bool) -> str:
    return f"`{name}`\\*" if needed else f"`{name}`"


if __name__ == "__main__":
    print(page(), end="")
