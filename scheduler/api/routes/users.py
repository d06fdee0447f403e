"""The user's own account."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from sqlalchemy import func, select

from scheduler.api.deps import PartsDep, UserDep
from scheduler.api.wire import when
from scheduler.services.group_states import UP
from scheduler.store.models import MachineGroup

router = APIRouter(prefix="/users", tags=["users"])


@router.get("/info")
def info(user: UserDep) -> dict[str, Any]:
    """Who the key belongs to."""
    return {
        "email": user.email,
        "username": user.username,
        "name": user.username,
        "tier": "operator",
        "total_available_credits": 0,
        "credits_currency": "USD",
        "terms_and_conditions_decision": "accepted",
        "registration_ts": when(user.created_at),
        "costs_fee_percentage": 0,
        "terminate_resources_credits_threshold": 0,
        "extra_metadata": {},
    }


@router.get("/quotas")
def quotas(parts: PartsDep, user: UserDep) -> dict[str, Any]:
    """What the user may use at one time (nothing is limited yet), and uses now."""
    with parts.store.read() as session:
        machines, vcpus, price = session.execute(
            select(
                func.coalesce(func.sum(MachineGroup.num_machines), 0),
                func.coalesce(func.sum(MachineGroup.num_machines * MachineGroup.vcpus), 0),
                func.coalesce(func.sum(MachineGroup.num_machines * MachineGroup.price_hour), 0),
            ).where(MachineGroup.user_id == user.id, MachineGroup.status.in_(UP))
        ).one()
    return {
        "max_price_hour": _quota("max_price_hour", "Price of all machines", float(price), "USD/h"),
        "max_vcpus": _quota("max_vcpus", "vCPUs of all machines", int(vcpus), "vcpu"),
        "max_instances": _quota("max_instances", "Machines", int(machines), "machine"),
    }


def _quota(name: str, label: str, used: float, unit: str) -> dict[str, Any]:
    return {
        "id": name,
        "label": label,
        "max_allowed": None,
        "in_use": used,
        "unit": unit,
        "scope": "global",
    }


@router.get("/costs")
def costs(user: UserDep) -> None:
    """Costs are not kept yet; the contract's clients take 403 for that."""
    raise HTTPException(403, "Costs are not kept by this server.")


@router.get("/fees")
def fees(user: UserDep) -> dict[str, Any]:
    """A self-hosted server takes no fees."""
    none = {"amount": 0, "active": False, "active_since": None, "unit": "%"}
    return {"costs_fee_percentage": none, "task_orchestration_fee": {**none, "unit": "USD"}}
