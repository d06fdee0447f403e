"""Sharing one's machine groups with other users, who have to accept it; the default group."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from scheduler.api.bounded import StrictBody
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.serializers import group_json, share_json
from scheduler.api.strict import StrictRouter
from scheduler.services.groups import sharing
from scheduler.services.groups.access import default_group
from scheduler.services.transaction import read, write

router = StrictRouter(prefix="/v1", tags=["compute"])


class NewOffer(StrictBody):
    """The user that a machine group is offered to."""

    username: str = Field(min_length=1, max_length=64)


@router.get("/default-group")
def show_default_group(rt: RuntimeDep, user: UserDep) -> dict[str, Any]:
    """The machine group that a task goes to that names none: the operators' default where the user
    may use it, else the user's only group that is started."""
    return group_json(read(rt, default_group, user.id))


@router.get("/groups/{name}/shares")
def list_shares(rt: RuntimeDep, user: UserDep, name: str) -> list[dict[str, Any]]:
    """With whom a machine group of the user's is shared; `accepted_at` null: only offered."""
    return [share_json(share) for share in read(rt, sharing.shares_of_own, user.id, name)]


@router.post("/groups/{name}/shares", status_code=201)
def offer_group(rt: RuntimeDep, user: UserDep, name: str, body: NewOffer) -> list[dict[str, Any]]:
    """Offer a machine group to another user, who may send tasks to it once they accept."""
    write(rt, sharing.offer, user, name, body.username)
    return list_shares(rt, user, name)


@router.delete("/groups/{name}/shares/{username}", status_code=204)
def withdraw_group(rt: RuntimeDep, user: UserDep, name: str, username: str) -> None:
    """Let another user send no more tasks to a machine group; what they have submitted goes on."""
    write(rt, sharing.withdraw, user, name, username)


@router.get("/group-offers")
def list_offers(rt: RuntimeDep, user: UserDep) -> list[dict[str, Any]]:
    """The machine groups that others share with the user; `accepted_at` null: not yet accepted."""
    return [share_json(share) for share in read(rt, sharing.offers_to, user.id)]


@router.post("/group-offers/{group_id}/accept")
def accept_offer(rt: RuntimeDep, user: UserDep, group_id: str) -> dict[str, Any]:
    """Use a machine group that is offered; its owner can read what is sent there."""
    return group_json(write(rt, sharing.accept, user, group_id))


@router.post("/group-offers/{group_id}/decline", status_code=204)
def decline_offer(rt: RuntimeDep, user: UserDep, group_id: str) -> None:
    """Refuse a machine group that is offered, or use it no longer."""
    write(rt, sharing.decline, user, group_id)
