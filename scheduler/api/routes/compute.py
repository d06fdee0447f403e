"""Machine groups."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from scheduler.api.bounded import Name, Page, Parameters, Seconds, Shown, Time
from scheduler.api.deps import RuntimeDep, UserDep
from scheduler.api.limits import MAX_NAME_CHARACTERS
from scheduler.api.serializers import group_json, group_view_json, past_group_json
from scheduler.api.strict import StrictRouter
from scheduler.domain.limits import GROUP_NAME
from scheduler.services import transaction
from scheduler.services.errors import Invalid
from scheduler.services.groups import register, terminate, views
from scheduler.services.groups.access import own_group
from scheduler.services.groups.history import HistoryFilter
from scheduler.services.machines import access
from simherd.contract import limits
from simherd.contract.cause import Cause
from simherd.contract.policy import Policy

router = StrictRouter(tags=["compute"])


class GroupBody(BaseModel):
    """A machine group to be registered; the aliases are the contract's words."""

    model_config = ConfigDict(extra="ignore")
    machine_type: Name = "local"
    wire_provider: Name = Field(default="LOCAL", alias="provider_id")
    num_machines: int = Field(default=1, ge=1, le=1000, alias="num_vms")
    min_machines: int | None = Field(default=None, ge=0, le=1000, alias="min_vms")
    max_machines: int | None = Field(default=None, ge=1, le=1000, alias="max_vms")
    is_elastic: bool = False
    spot: bool = True
    disk_size_gb: float = Field(default=10, gt=0, le=65536)
    threads_per_core: Literal[1, 2] = 2
    zone: Shown | None = Field(default=None, max_length=MAX_NAME_CHARACTERS)
    name: str | None = Field(default=None, max_length=63, pattern=GROUP_NAME)
    group_type: Literal["standard", "mpi"] = Field(default="standard", alias="type")
    max_idle_s: Seconds | None = Field(default=None, alias="max_idle_time")
    auto_terminate_at: Time | None = Field(default=None, alias="auto_terminate_ts")
    reconnect_s: float = Field(default=limits.RECONNECT_WINDOW_S, ge=30, le=86400)
    provider: str | None = Field(default=None, max_length=40)
    shared: bool = False
    on_demand_fallback: bool = False
    policy: Parameters = Field(default_factory=dict)


def _timestamp(at: datetime | None) -> float | None:
    # The contract's clients write "never" as the year 9999.
    return None if at is None or at.year >= 9999 else at.timestamp()


def _policy(given: dict[str, Any]) -> Policy:
    try:
        return Policy.read(given)
    except ValueError as error:
        raise Invalid(str(error)) from error


@router.post("/compute/group", status_code=201, name="register")
def register_group(rt: RuntimeDep, user: UserDep, body: GroupBody) -> dict[str, Any]:
    """Register a machine group."""
    return group_json(register.register_group(rt, user.id, _request(body)))


@router.post("/compute/group/check", status_code=204)
def check(rt: RuntimeDep, user: UserDep, body: GroupBody) -> None:
    """Refuse what could not be registered and started now as a group; nothing is registered."""
    register.register_group(rt, user.id, _request(body), only_check=True)


def _request(body: GroupBody) -> register.GroupRequest:
    typed = {
        "disk_size_gb": round(body.disk_size_gb),
        "auto_terminate_at": _timestamp(body.auto_terminate_at),
        "policy": _policy(body.policy),
    }
    return register.GroupRequest(**{**dict(body), **typed})


@router.post("/compute/group/start")
def start(rt: RuntimeDep, user: UserDep, machine_group_id: str) -> dict[str, Any]:
    """Start a registered group's machines."""
    group = register.owned_group(rt, user.id, machine_group_id)
    register.start_group(rt, group)
    rt.send_job("scale_group", group.id)
    return group_json(register.owned_group(rt, user.id, machine_group_id))


@router.delete("/compute/group", status_code=202, name="terminate")
def terminate_group(rt: RuntimeDep, user: UserDep, machine_group_id: str) -> dict[str, Any]:
    """Terminate a group: its tasks end, its machines stop."""
    group = register.owned_group(rt, user.id, machine_group_id)
    terminate.request_termination(rt, group, Cause.GROUP_TERMINATED)
    rt.send_job("shut_down_group", group.id)
    return group_json(register.owned_group(rt, user.id, machine_group_id))


@router.post("/v1/groups/{name}/invitations", status_code=201)
def invite(rt: RuntimeDep, user: UserDep, name: str) -> dict[str, str]:
    """A token with which one machine can be started by hand, once and soon."""
    return asdict(access.invite(rt, transaction.read(rt, own_group, user.id, name)))


@router.get("/compute/groups")
def list_groups(rt: RuntimeDep, user: UserDep) -> list[dict[str, Any]]:
    """The active groups that the user may send tasks to; `own`: whether it is the user's."""
    return [group_view_json(view, user.id) for view in views.usable_groups(rt, user.id)]


@router.get("/compute/groups/history")
def group_history(
    rt: RuntimeDep,
    user: UserDep,
    page: Page = 1,
    per_page: Annotated[int, Query(ge=1, le=500)] = 100,
    created_before: Time | None = None,
    created_after: Time | None = None,
    project: str | None = None,
    non_active_only: bool = False,
    provider_id: str | None = None,
) -> list[dict[str, Any]]:
    """The user's groups, newest first, those that are terminated too, with what they cost."""
    conditions = HistoryFilter(
        created_before=_timestamp(created_before),
        created_after=_timestamp(created_after),
        project=project,
        non_active_only=non_active_only,
        provider_id=provider_id,
    )
    groups = transaction.read(rt, views.past_groups, user.id, conditions, page, per_page)
    return [past_group_json(*group) for group in groups]


@router.get("/compute/group/{name}")
def get_group(rt: RuntimeDep, user: UserDep, name: str) -> dict[str, Any]:
    """One group by name: the user's own, else one that is shared with the user."""
    return group_view_json(views.usable_group_named(rt, user.id, name), user.id)
