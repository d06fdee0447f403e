"""Bodies as they come in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException

from scheduler.api.app import rules
from scheduler.api.edge import bodies
from scheduler.api.edge.access import Credential, Rule
from scheduler.api.edge.bodies import Body
from scheduler.api.edge.rates import BodyBudget

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNKED = {b"transfer-encoding": b"chunked"}


def _rule(credential: Credential) -> Rule:
    return next(rule for rule in rules() if rule.credential is credential)


def _pieces(*sizes: int) -> Callable[[], Any]:
    left = list(sizes)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        size = left.pop(0)
        return {"type": "http.request", "body": b"x" * size, "more_body": True}

    return receive


def _status(body: Body, times: int) -> int:
    async def read() -> None:
        for _ in range(times):
            await body.receive()

    with pytest.raises(HTTPException) as refused:
        asyncio.run(read())
    assert refused.value.headers
    return refused.value.status_code


def test_a_stalled_body_is_too_slow() -> None:
    body = Body(CHUNKED, _pieces(10), 100, 0.01)
    body.admit(_rule(Credential.USER), "ada", BodyBudget())
    assert _status(body, 2) == 408


def test_a_file_needs_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TOTAL_S", 0.01)
    body = Body(CHUNKED, _pieces(1, 1), 100, 3600.0)
    body.admit(_rule(Credential.SIGNATURE), "ada", BodyBudget())
    assert _status(body, 3) == 408


def test_a_body_is_charged_until_its_request_is_over() -> None:
    budget = BodyBudget(most=100, most_of_one=60)
    first, second = (Body(CHUNKED, _pieces(50, 20), 1000, 60.0) for _ in range(2))
    for body in (first, second):
        body.admit(_rule(Credential.USER), "ada", budget)
    asyncio.run(first.receive())
    assert budget.held == 50
    assert _status(second, 1) == 429
    second.release()
    first.release()
    assert budget.held == 0


def test_a_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    body = Body({b"content-length": b"101"}, _pieces(), 100, 60.0)
    with pytest.raises(HTTPException) as refused:
        body.admit(_rule(Credential.USER), "ada", BodyBudget())
    assert refused.value.status_code == 413
