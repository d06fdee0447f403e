"""What only operators may do: machine groups of all users, and what machines cost."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from scheduler.api.bounded import Amount, StrictBody
from scheduler.api.deps import OperatorDep, RuntimeDep
from scheduler.api.serializers import (
    dollars,
    group_json,
    isoformat_utc,
    quarantine_json,
    share_json,
)
from scheduler.api.strict import StrictRouter
from scheduler.domain.limits import MAX_GROUP_SHARES
from scheduler.services.billing import prices
from scheduler.services.billing.prices import PriceState
from scheduler.services.control import quarantine
from scheduler.services.groups import admin, sharing
from scheduler.services.groups.admin import GroupState
from scheduler.services.groups.views import group_for_operator
from scheduler.services.transaction import read, write
from scheduler.wiring import Runtime

router = StrictRouter(prefix="/v1/admin", tags=["admin"])

#: The owner of the group that is meant.
Owner = Annotated[str | None, Query(max_length=64)]


class NewPrice(StrictBody):
    """US$ per machine and hour; what is left out stays as it is."""

    on_demand: Amount | None = None
    spot: Amount | None = None


class Unsharing(StrictBody):
    """The users with whom a machine group is no longer shared; without names, everybody."""

    usernames: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list, max_length=MAX_GROUP_SHARES
    )


class Sharing(Unsharing):
    """With whom a machine group is shared: users by name, or everyone."""

    everyone: bool = False


class Default(StrictBody):
    """Whether tasks go to a group that name none."""

    is_default: bool


def _group(state: GroupState) -> dict[str, Any]:
    group = state.group
    return {
        "id": group.id,
        "name": group.name,
        "username": state.username,
        "is_owner_operator": state.is_owner_operator,
        "status": group.status,
        "status_detail": group.status_detail,
        "quarantine": quarantine_json(group),
        "machine_type": group.machine_type,
        "provider": group.provider,
        "shared": group.shared,
        "shared_with": state.shares,
        "is_default": group.is_default,
        "machines": state.machines,
        "tasks": state.tasks,
        "cost": dollars(state.cost),
        "creation_timestamp": isoformat_utc(group.created_at),
    }


def _price(state: PriceState) -> dict[str, Any]:
    return {
        "machine_type": state.kind.name,
        "vcpus": state.kind.vcpus,
        "memory_gb": state.kind.memory_gb,
        "on_demand": state.kind.on_demand,
        "spot": state.kind.spot,
        "table_on_demand": state.table.on_demand,
        "table_spot": state.table.spot,
        "set_at": isoformat_utc(state.set_at),
    }


@router.get("/groups")
def list_groups(rt: RuntimeDep, _user: OperatorDep, ended: bool = False) -> list[dict[str, Any]]:
    """Every user's machine groups with what they have cost; `ended`: the terminated ones too."""
    return [_group(state) for state in read(rt, admin.group_states, ended=ended)]


@router.get("/groups/{group}")
def show_group(
    rt: RuntimeDep, _user: OperatorDep, group: str, owner: Owner = None
) -> dict[str, Any]:
    """One machine group, by id or name, with its machines under `group`; `owner`: whose, where
    several have one of this name."""
    return _details(rt, group, owner)


def _details(rt: Runtime, group: str, owner: str | None = None) -> dict[str, Any]:
    state, machines, shares = read(rt, group_for_operator, group, owner)
    return {
        **_group(state),
        "shares": [share_json(share) for share in shares],
        "group": group_json(state.group, machines),
    }


@router.post("/groups/{group}/terminate", status_code=202)
def terminate_group(rt: RuntimeDep, operator: OperatorDep, group: str) -> dict[str, Any]:
    """Terminate a user's machine group: its tasks end, its machines stop."""
    return _group(admin.terminate_group(rt, operator.username, group))


@router.post("/groups/{group}/drain", status_code=202)
def drain_group(rt: RuntimeDep, operator: OperatorDep, group: str) -> dict[str, int]:
    """Have a group's machines end what they have and be replaced by others."""
    return {"drained": admin.drain_group(rt, operator.username, group)}


@router.delete("/groups/{group}/machines/{machine}")
def remove_machine(
    rt: RuntimeDep, operator: OperatorDep, group: str, machine: str
) -> dict[str, str]:
    """Revoke a machine's credentials and terminate it, by its id or name."""
    removed = admin.remove_machine(rt, operator.username, group, machine)
    return {"id": removed.id, "name": removed.name}


@router.post("/groups/{group}/repair")
def repair_group(rt: RuntimeDep, operator: OperatorDep, group: str) -> dict[str, Any]:
    """Make the keys of a quarantined machine group again, from what SQL knows."""
    return _group(quarantine.repair_group(rt, operator.username, group))


@router.post("/groups/{group}/share")
def share_group(
    rt: RuntimeDep, operator: OperatorDep, group: str, body: Sharing, owner: Owner = None
) -> dict[str, Any]:
    """Let users, or everyone, send tasks to a machine group; `owner`: whose, where several have
    one of this name."""
    shared = write(
        rt,
        sharing.share_with,
        operator.username,
        group,
        body.usernames,
        everyone=body.everyone,
        owner=owner,
    )
    return _details(rt, shared.id)


@router.post("/groups/{group}/unshare")
def unshare_group(
    rt: RuntimeDep, operator: OperatorDep, group: str, body: Unsharing, owner: Owner = None
) -> dict[str, Any]:
    """Let users send no more tasks to a machine group; what they have submitted goes on."""
    changed = write(rt, sharing.unshare_with, operator.username, group, body.usernames, owner=owner)
    return _details(rt, changed.id)


@router.put("/groups/{group}/default")
def set_default_group(
    rt: RuntimeDep, operator: OperatorDep, group: str, body: Default, owner: Owner = None
) -> dict[str, Any]:
    """Have tasks that name no group go to this one, where their users may use it, or no longer."""
    changed = write(
        rt, sharing.set_default, operator.username, group, is_default=body.is_default, owner=owner
    )
    return _details(rt, changed.id)


@router.get("/prices")
def list_prices(rt: RuntimeDep, _user: OperatorDep) -> list[dict[str, Any]]:
    """What machine types cost, US$ per hour, and what the operator's table says."""
    return [_price(state) for state in read(rt, prices.price_states, rt.catalogue).values()]


@router.put("/prices/{machine_type}")
def set_price(
    rt: RuntimeDep, operator: OperatorDep, machine_type: str, body: NewPrice
) -> dict[str, Any]:
    """Set what machines of a type cost in groups that are registered from now on."""
    state = write(
        rt,
        prices.set_price,
        rt.catalogue,
        operator.username,
        machine_type,
        on_demand=body.on_demand,
        spot=body.spot,
    )
    return _price(state)


@router.delete("/prices/{machine_type}")
def unset_price(rt: RuntimeDep, operator: OperatorDep, machine_type: str) -> dict[str, Any]:
    """Have the operator's table say again what machines of a type cost."""
    return _price(write(rt, prices.unset_price, rt.catalogue, operator.username, machine_type))
