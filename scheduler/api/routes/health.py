"""Whether the server works, and what it can reach."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from scheduler.api.strict import StrictRouter
from simherd.runtime.health import LIVE, READY, readiness

router = StrictRouter(tags=["health"])


@router.get(LIVE)
async def livez() -> dict[str, str]:
    """The process responds."""
    # In the event loop: the threads may all wait for something that is down.
    return {"status": "ok"}


@router.get(READY)
def readyz(request: Request, response: Response) -> dict[str, Any]:
    """What the server depends on: 200 when all of it is there, else 503 and what is not."""
    response.status_code, body = readiness(request.app.state.dependencies.ask())
    return body
