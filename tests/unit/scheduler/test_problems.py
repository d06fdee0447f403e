"""Errors as problem details."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError

from scheduler.api.patterns import RULES
from scheduler.api.problems import response_to
from scheduler.objects.archive import ArchivesBusy
from scheduler.objects.base import NoSuchObject, PathTaken, StorageUnavailable
from scheduler.services import errors


def _answer(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    scope = {
        "type": "http",
        "path": "/p",
        "headers": [],
        "query_string": b"",
        "server": ("host", 80),
        "state": {"request_id": "r1"},
    }
    response = response_to(Request(scope), error)
    return response.status_code, json.loads(bytes(response.body)), dict(response.headers)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Forbidden("no"), 403),
        (errors.QuotaExceeded("no"), 403),
        (errors.ResourceNotFound("no"), 404),
        (errors.Conflict("no"), 409),
        (errors.Invalid("no"), 422),
        (errors.TooLarge("no"), 413),
        (errors.TooManyRequests("no"), 429),
        (errors.GatewayTimeout("no"), 503),
        (errors.ServiceError("no"), 400),
        (HTTPException(418, "no"), 418),
    ],
)
def test_a_refusal_keeps_its_sentence(error: Exception, status: int) -> None:
    found, body, _ = _answer(error)
    assert found == body["status"] == status
    assert body["detail"] == "no"
    assert body["request_id"] == "r1"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (redis.ConnectionError("host:6379 refused"), 503),
        (OperationalError("SELECT secret", {}, Exception("down")), 503),
        (StorageUnavailable("bucket"), 503),
        (ArchivesBusy(), 503),
        (RuntimeError("private detail"), 500),
    ],
)
def test_a_failure_of_the_server_shows_nothing_of_its_inside(error: Exception, status: int) -> None:
    found, body, headers = _answer(error)
    assert found == status
    assert not any(word in str(body) for word in ("6379", "secret", "bucket", "private"))
    assert ("retry-after" in headers) == (status == 503)


def test_a_timeout_says_when_to_try_again() -> None:
    assert _answer(errors.GatewayTimeout("no"))[2]["retry-after"] == "30"
    assert "retry-after" not in _answer(errors.Conflict("no"))[2]


@pytest.mark.parametrize(
    ("error", "status"), [(NoSuchObject("a/b"), 404), (PathTaken("'a/b' is taken"), 409)]
)
def test_an_object_is_named_by_its_path(error: Exception, status: int) -> None:
    found, body, _ = _answer(error)
    assert found == status
    assert body["detail"].startswith("path: ")
    assert "a/b" in body["detail"]


def test_a_field_outside_its_bounds_is_named_with_its_value() -> None:
    row = {"loc": ("body", "tasks", 0, "priority"), "msg": "too large", "input": 101}
    _, body, _ = _answer(RequestValidationError([row]))
    assert body["detail"] == "tasks.0.priority: too large; given was 101."


@pytest.mark.parametrize("pattern", RULES)
def test_a_pattern_is_explained_in_words(pattern: str) -> None:
    row = {"loc": ("query", "x"), "msg": "regex", "input": "?", "ctx": {"pattern": pattern}}
    _, body, _ = _answer(RequestValidationError([row]))
    assert body["detail"] == f"x: {RULES[pattern]}; given was '?'."


def test_only_ten_wrong_fields_are_named() -> None:
    rows = [{"loc": ("query", f"f{n}"), "msg": "wrong", "input": "x" * 1000} for n in range(20)]
    _, body, _ = _answer(RequestValidationError(rows))
    assert body["detail"].count("wrong") == 10
    assert len(body["detail"]) < 10 * 250
