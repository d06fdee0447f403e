"""Headers of responses that no route has made."""

from __future__ import annotations

import asyncio

import httpx
from pydantic import SecretStr

from scheduler.api.app import make_app
from scheduler.config import Settings
from scheduler.wiring import Runtime
from simherd.runtime.health import SECURITY_HEADERS


def test_a_failure_has_security_headers_too() -> None:
    redis, database = SecretStr("redis://localhost"), SecretStr("sqlite://")
    app = make_app(Runtime(Settings.model_construct(redis_url=redis, database_url=database)))
    app.state.dependencies = None

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/readyz")

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
