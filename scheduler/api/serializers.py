"""SQL rows as the HTTP contract's JSON."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scheduler.domain.attempt_numbers import retries
from scheduler.services.billing.costs import machine_cost
from scheduler.store.machine_state import shown_state
from simherd.contract import objects
from simherd.contract.lifecycle import TABLE, TERMINAL, Status
from simherd.contract.operations import Operation
from simherd.contract.task_options import as_sent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scheduler.services.billing.quotas import QuotaState
    from scheduler.services.groups.sharing import ShareOffer
    from scheduler.services.groups.views import GroupView
    from scheduler.services.projects.projects import ProjectState
    from scheduler.services.tasks.listing import TaskDetails
    from scheduler.store.models import (
        AttemptRow,
        GroupRow,
        MachineRow,
        StatusChange,
        TaskRow,
        TransferRow,
        UsageSample,
    )
    from scheduler.store.models import TaskOperation as OperationRow


def isoformat_utc(at: float | None) -> str | None:
    """An instant as the contract writes it: with an offset and six fractional digits."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def dollars(amount: float) -> float:
    """US$ as they are sent: to a millionth."""
    return round(amount, 6)


def task_json(task: TaskRow, project: str, group_name: str, cost: float) -> dict[str, Any]:
    """A task as an element of a list; `cost`: US$ of its attempts so far."""
    status = Status(task.status)
    attempt = max(task.attempt, 1)
    end = task.end_time
    return {
        "task_id": task.id,
        "status": status.value,
        "status_alias": TABLE[status].label,
        "is_terminated": status in TERMINAL,
        "simulator": task.simulator_alias or task.simulator,
        "project": project,
        "num_retries": retries(task.attempt, task.attempt_floor, task.attempts_before),
        "storage_path": objects.task_dir(task.storage_prefix, task.id),
        "storage_input_path": objects.input_path(task.storage_prefix, task.id),
        "storage_output_path": objects.output_path(task.storage_prefix, task.id, attempt),
        "container_image": task.container_image,
        "create_time": isoformat_utc(task.create_time),
        "input_submit_time": isoformat_utc(task.input_submit_time),
        "start_time": isoformat_utc(task.start_time),
        "computation_start_time": isoformat_utc(task.computation_start_time),
        "computation_end_time": isoformat_utc(task.computation_end_time),
        "end_time": isoformat_utc(end),
        "duration_seconds": None if end is None else round(end - task.create_time, 6),
        "metrics": dict(task.metrics),
        "executer": task.executer,
        "machine_group_name": group_name,
        "machine_group_id": task.group_id,
        "error_detail": task.error_detail,
        "cause": task.cause,
        "exit_code": task.exit_code,
        "attempt": task.attempt,
        "losses": task.losses,
        "time_to_live_seconds": task.time_to_live_s,
        "estimated_computation_cost": dollars(cost),
        "max_cost": task.max_cost,
        "deadline": isoformat_utc(task.deadline_at),
        "resubmit_on_preemption": task.resubmit,
        "input_resources": task.input_resources,
        "stream_zip": task.stream_zip,
        "compress_with": task.compress_with,
        "extra_params": as_sent(task.extra_params, task.id),
        "task_metadata": task.task_metadata,
    }


def task_status_json(task: TaskRow, tasks_ahead: int | None) -> dict[str, Any]:
    """A task's status and its position in the queue; None: it is not queued."""
    return {
        "id": task.id,
        "status": task.status,
        "position_in_queue": None if tasks_ahead is None else {"tasks_ahead": tasks_ahead},
        "is_terminated": task.status in TERMINAL,
    }


def task_details_json(details: TaskDetails) -> dict[str, Any]:
    """A task with its history."""
    return {
        **task_json(details.task, details.project, details.group, details.cost),
        "status_history": history_json(details.changes, details.operations),
        "machine_operations": [],
        "staged_on": details.prefetched_on,
    }


def history_json(
    changes: Sequence[StatusChange], operations: Mapping[int, Sequence[OperationRow]]
) -> list[dict[str, Any]]:
    """A task's history, each entry with the operations that began in it."""
    return [
        {
            "status": c.status,
            "alias": TABLE[Status(c.status)].label,
            "timestamp": isoformat_utc(c.at),
            "end_timestamp": isoformat_utc(c.ended_at),
            "description": c.description,
            "machine_id": c.machine_id,
            "attempt": c.attempt,
            "operations": [operation_json(o) for o in operations.get(c.id, ())],
        }
        for c in changes
    ]


def operation_json(row: OperationRow) -> dict[str, Any]:
    """A timed stage."""
    return {
        "name": row.name,
        "alias": Operation(row.name).label,
        "start_timestamp": isoformat_utc(row.started_at),
        "end_timestamp": isoformat_utc(row.ended_at),
        "status": row.status,
        "attributes": row.attributes,
    }


def attempt_json(row: AttemptRow, machine_name: str | None, cost: float) -> dict[str, Any]:
    """One attempt of a task; `cost`: US$, so far where it has not ended."""
    return {
        "attempt": row.attempt,
        "machine_id": row.machine_id,
        "machine_name": machine_name,
        "started_at": isoformat_utc(row.started_at),
        "ended_at": isoformat_utc(row.ended_at),
        "cause": row.cause,
        "detail": row.detail,
        "saved": row.saved,
        "price_hour": row.price_hour,
        "cost": dollars(cost),
    }


def usage_json(row: UsageSample) -> dict[str, Any]:
    """What a task used at one moment."""
    return {
        "timestamp": isoformat_utc(row.at),
        "attempt": row.attempt,
        "cpu_seconds": row.cpu_seconds,
        "memory_bytes": row.memory_bytes,
        "processes": row.processes,
        "read_bytes": row.read_bytes,
        "written_bytes": row.written_bytes,
        "disk_bytes": row.disk_bytes,
    }


def quotas_json(quotas: list[QuotaState]) -> dict[str, Any]:
    """Quotas by name."""
    return {
        state.quota.value: {
            "id": state.quota.value,
            "label": state.quota.label,
            "max_allowed": state.allowed,
            "in_use": state.in_use,
            "unit": state.quota.unit,
            "scope": "global",
        }
        for state in quotas
    }


def quarantine_json(group: GroupRow) -> dict[str, Any] | None:
    """Since when a group's keys are set aside, and why; None: they are not."""
    if group.quarantined_at is None:
        return None
    return {"since": isoformat_utc(group.quarantined_at), "reason": group.quarantine_reason}


def group_json(
    group: GroupRow,
    machines: Sequence[MachineRow] | None = None,
    current: Mapping[str, str] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A machine group. Prices are US$ per hour; `facts` are what its machines reported.
    What it costs is known only with its machines."""
    now = time.time()
    costs = {m.id: machine_cost(m, group.price_hour, now) for m in machines or ()}
    price = group.price_hour
    smallest = group.min_machines if group.is_elastic else group.num_machines
    largest = group.max_machines if group.is_elastic else group.num_machines
    return {
        "id": group.id,
        "name": group.name,
        "machine_type": group.machine_type,
        "provider_id": group.wire_provider,
        "zone": group.zone,
        "type": group.group_type,
        "is_elastic": group.is_elastic,
        "spot": group.spot,
        "num_vms": group.num_machines,
        "min_vms": smallest,
        "max_vms": largest,
        "disk_size_gb": group.disk_size_gb,
        "threads_per_core": group.threads_per_core,
        "cpu_info": {
            "cpu_cores_logical": group.vcpus,
            "cpu_cores_physical": max(1, group.vcpus // group.threads_per_core),
        },
        "gpu_info": None,
        "total_ram_gb": group.memory_bytes // 1024**3,
        "status": group.status,
        "status_detail": group.status_detail,
        "quarantine": quarantine_json(group),
        "provider": group.provider,
        "shared": group.shared,
        "on_demand_fallback": group.on_demand_fallback,
        "started": group.started_at is not None,
        "creation_timestamp": isoformat_utc(group.created_at),
        "deletion_timestamp": isoformat_utc(group.terminated_at),
        "max_idle_time": group.max_idle_s,
        "idle_seconds": None,
        "auto_terminate_ts": isoformat_utc(group.auto_terminate_at),
        "cost_per_hour": {
            "min": price * smallest,
            "max": price * largest,
            "current": price * group.num_machines,
            "min_reason": "the smallest number of machines",
            "max_reason": "the largest number of machines",
            "currency": "USD",
        },
        "quota_usage": {
            "max_price_hour": price * largest,
            "max_vcpus": group.vcpus * largest,
            "max_instances": largest,
        },
        "costs": None
        if machines is None
        else {"cost": dollars(sum(costs.values())), "currency": "USD"},
        "reconnect_s": group.reconnect_s,
        "policy": group.policy,
        "machines": [
            {
                **_machine_json(group, m, (current or {}).get(m.id)),
                "facts": (facts or {}).get(m.id),
                "cost": dollars(costs[m.id]),
            }
            for m in machines or ()
        ],
    }


def share_json(share: ShareOffer) -> dict[str, Any]:
    """With whom a group is shared, by whom, and since when it holds; null: it is an offer."""
    return {
        "group_id": share.group.id,
        "group": share.group.name,
        "owner": share.owner,
        "username": share.username,
        "granted_by": share.share.granted_by,
        "offered_at": isoformat_utc(share.share.created_at),
        "accepted_at": isoformat_utc(share.share.accepted_at),
    }


def group_view_json(view: GroupView, user_id: str) -> dict[str, Any]:
    """A machine group with its machines; `own`: whether it is this user's."""
    group = group_json(view.group, view.machines, view.tasks, view.facts)
    return {**group, "own": view.group.user_id == user_id}


def past_group_json(
    group: GroupRow, machines: Sequence[MachineRow], task_seconds: float
) -> dict[str, Any]:
    """A machine group of the history; `task_seconds`: for how long tasks held its machines."""
    now = time.time()
    machine_seconds = sum(
        (m.terminated_at or now) - m.launched_at for m in machines if m.launched_at is not None
    )
    times = {
        "total": machine_seconds,
        "task": task_seconds,
        "idle": max(0.0, machine_seconds - task_seconds),
    }
    return {
        **group_json(group, machines),
        "machines": None,
        "start_timestamp": isoformat_utc(group.started_at),
        "termination_reason": group.end_cause,
        "statistics": {
            f"{name}_time": {"name": name, "value": round(seconds, 6), "unit": "seconds"}
            for name, seconds in times.items()
        },
    }


def _machine_json(group: GroupRow, machine: MachineRow, task: str | None) -> dict[str, Any]:
    now = time.time()
    return {
        "uuid": machine.id,
        "host_name": machine.name,
        "status": shown_state(machine, now),
        "cpu_count_logical": group.vcpus,
        "cpu_count_physical": max(1, group.vcpus // group.threads_per_core),
        "memory_bytes": group.memory_bytes,
        "started_at": isoformat_utc(machine.created_at),
        "terminated_at": isoformat_utc(machine.terminated_at),
        "last_seen_at": isoformat_utc(machine.last_seen_at),
        "current_task_id": task,
        "drain_reason": machine.drain_reason,
        "spot": machine.spot,
        "reclaim_at": isoformat_utc(machine.reclaim_at),
        "price_hour": machine.price_hour or group.price_hour,
        "disk_size_gb": group.disk_size_gb,
    }


def project_json(state: ProjectState) -> dict[str, Any]:
    """A project with its number of tasks by status, and their cost."""
    project = state.project
    return {
        "id": project.id,
        "name": project.name,
        "project_type": project.project_type,
        "created_at": isoformat_utc(project.created_at),
        "num_tasks": sum(state.counts.values()),
        "task_status_overview": dict(state.counts),
        "project_metadata": project.project_metadata,
        "estimated_computation_cost": dollars(state.cost),
        "total_orchestration_fee": 0.0,
        "total_orchestration_fee_undiscounted": 0.0,
    }


def transfer_json(row: TransferRow) -> dict[str, Any]:
    """A fetch or an export. Its URLs may hold secrets of another storage: they are not shown."""
    return {
        "id": row.id,
        "kind": row.kind,
        "state": row.state,
        "path": row.path,
        "host": urlsplit(row.url).hostname,
        "size_bytes": row.size,
        "moved_bytes": row.moved or 0,
        "error": row.error,
        "created_at": isoformat_utc(row.created_at),
        "ended_at": isoformat_utc(row.ended_at),
    }
