"""Server-sent events, read as a browser would."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.support.env import Env


@contextmanager
def events(
    env: Env, path: str, body: dict[str, Any] | None = None
) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """The events of one answer, as name and fields."""
    method = "GET" if body is None else "POST"
    with env.api.stream(method, path, json=body, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _read(answer)


def _read(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    name = data = ""
    for line in answer.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data = value
        elif not line and name:
            yield name, json.loads(data)
            name = ""
