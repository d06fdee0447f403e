"""An API that runs without WebRTC."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from scheduler.api.app import make_app
from scheduler.services.accounts.users import create_key
from tests.support.builders import make_group, make_task
from tests.support.runtime import make_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from scheduler.store.engine import Store


@pytest.mark.parametrize("verb", ["register", "offer"])
def test_it_says_what_is_missing(
    store: Store,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    """With a 4xx, whose reason the published client shows."""
    # This is how Python notes that a module cannot be imported.
    monkeypatch.setitem(sys.modules, "aiortc", None)
    with store.write() as session:
        group = make_group(session)
        task_id = make_task(session, group).id
        key = create_key(session, group.user_id, "test")
    rt, _ = make_runtime(database_url, redis_url, tmp_path)

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(rt))
        headers = {"X-API-Key": key}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://api", headers=headers
        ) as api:
            return await api.post(f"/tasks/{task_id}/{verb}", json={"sender_id": "me"})

    found = asyncio.run(call())
    assert found.status_code == 409
    assert "pip install 'simherd[webrtc]'" in found.json()["detail"]
    rt.store.engine.dispose()
