"""Which clients this server understands."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

from fastapi import HTTPException

from scheduler.api.strict import StrictRouter
from scheduler.services.errors import Invalid

router = StrictRouter(tags=["health"])

SERVER_VERSION = importlib.metadata.version("simherd")
#: The first release of the published client that speaks this server's contract.
_OLDEST_CLIENT = (0, 18, 0)


@router.get("/version-check")
def version_check(client_version: str) -> dict[str, Any]:
    """Whether a client can work with this server; 406 for one that is too old."""
    numbers = re.match(r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?", client_version)
    if numbers is None:
        raise Invalid(f"client_version: {client_version[:80]!r} is not a version such as 0.18.12.")
    oldest = ".".join(map(str, _OLDEST_CLIENT))
    if tuple(int(n or 0) for n in numbers.groups()) < _OLDEST_CLIENT:
        raise HTTPException(
            406,
            f"client_version: {client_version[:80]} is too old for this server; "
            f"{oldest} is the oldest that works. Upgrade the client.",
        )
    return {
        "is_valid": True,
        "client_version": client_version,
        "server_version": SERVER_VERSION,
        "min_supported_client_version": oldest,
    }
