"""Whether the server is there, and what it can reach."""

from __future__ import annotations

from typing import Any

import redis
from fastapi import APIRouter, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from scheduler.api.deps import PartsDep

router = APIRouter(tags=["health"])


@router.get("/livez")
def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(parts: PartsDep, response: Response) -> dict[str, Any]:
    """What the server depends on: 200 when all of it is there, else 503."""
    checks = {"redis": _redis_ok(parts), "database": _database_ok(parts)}
    if not all(checks.values()):
        response.status_code = 503
    return {"status": "ok" if all(checks.values()) else "down", "checks": checks}


def _redis_ok(parts: PartsDep) -> bool:
    try:
        return bool(parts.queue.client.ping())
    except redis.RedisError:
        return False


def _database_ok(parts: PartsDep) -> bool:
    try:
        with parts.store.read() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True
