"""Requests of machines: joining, changing their secret, reporting a reclaim notice."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Header
from pydantic import Field

from scheduler.api.bounded import Instant, StrictBody
from scheduler.api.deps import RuntimeDep
from scheduler.api.strict import StrictRouter
from scheduler.services.machines import access, reclaim_notices
from simherd.contract.join import MACHINE_HEADER, ROUTE, SECRET_HEADER

router = StrictRouter(prefix=ROUTE, tags=["machines"])

MachineId = Annotated[str, Header(alias=MACHINE_HEADER)]
Secret = Annotated[str, Header(alias=SECRET_HEADER)]

SECRET_VERB = "/secret"


class NewSecret(StrictBody):
    """SHA-256 of the secret that a machine has made for itself."""

    secret_digest: str = Field(pattern="^[0-9a-f]{64}$", max_length=64)


class Joining(NewSecret):
    """A machine with its ticket's token."""

    token: str = Field(min_length=1, max_length=200)


class Notice(StrictBody):
    """When the provider takes the machine away, seconds since the epoch; null: it stays."""

    reclaim_at: Instant | None


@router.post("/join")
def join(rt: RuntimeDep, body: Joining) -> dict[str, Any]:
    """Let a machine in with its ticket."""
    return asdict(access.join(rt, body.token, body.secret_digest))


@router.post(SECRET_VERB)
def change_secret(
    rt: RuntimeDep, body: NewSecret, machine_id: MachineId = "", secret: Secret = ""
) -> dict[str, Any]:
    """Let a machine use another secret from now on."""
    access.change_secret(rt, machine_id, secret, body.secret_digest)
    return {}


@router.post("/notice")
def notice(
    rt: RuntimeDep, body: Notice, machine_id: MachineId = "", secret: Secret = ""
) -> dict[str, Any]:
    """Report that the provider will reclaim a machine."""
    reclaim_notices.note_reclaim(rt, machine_id, secret, body.reclaim_at)
    return {}
