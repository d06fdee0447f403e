"""Launch the machines of a group, and replace those that are gone or never joined."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from scheduler.domain.group_size import has_failed_to_start
from scheduler.domain.group_status import UP, GroupStatus
from scheduler.domain.limits import JOIN_S
from scheduler.domain.losses import NOT_A_SWEEP, is_mass_loss
from scheduler.domain.machine_status import MachineStatus
from scheduler.providers.base import LaunchRefused, MachinePlan, MachineState, NoCapacity, Uncertain
from scheduler.services.accounts.provider_access import update_provider_detail
from scheduler.services.billing.prices import priced_machine_types
from scheduler.services.machines.access import new_machine, new_ticket, revoke
from scheduler.store.machine_state import MACHINE_UP
from scheduler.store.models import GroupRow, MachineRow
from scheduler.store.outbox import group_changed
from scheduler.store.transitions import change_group, change_machine
from simherd.contract.notifications import NotificationTrigger
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.domain.losses import GracePeriod
    from scheduler.providers.base import MachineProvider
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Before a launch that the provider refused is tried again.
_BACKOFF = Backoff(10.0, 300.0)
#: Seconds that a launch takes at the most.
_LAUNCH_S = 120.0


def scale_group(rt: Runtime, group_id: str, *, grace: GracePeriod | None = NOT_A_SWEEP) -> None:
    """Bring a group's machines to the number it should have; replace those that died.
    `grace`: the grace period that holds now; in it, no machine is replaced for its silence."""
    with rt.store.read() as session:
        group = session.get(GroupRow, group_id)
        machines = machines_of(session, group_id, MACHINE_UP)
    if group is None or group.status not in UP:
        return
    provider = rt.providers[group.provider]
    is_on = update_provider_detail(rt, group)
    if not provider.by_hand:
        # While the provider is off, existing machines are watched and none is replaced.
        revives = provider.revives and is_on
        _replace(rt, group, provider, machines, grace=grace, revives=revives)
        if is_on:
            _add_missing(rt, group)
            _launch_due(rt, group, provider)
    else:
        _retire_unused_tickets(rt, group, machines)
    _mark_started(rt, group_id)


def _retire_unused_tickets(rt: Runtime, group: GroupRow, machines: list[MachineRow]) -> None:
    """Retire the machines whose ticket nobody has used in time."""
    now = time.time()
    for machine in machines:
        if _never_came(machine) and now - (machine.launched_at or now) > JOIN_S:
            retire(rt, group, machine, "Nobody started it with its token.")


def machines_of(session: Session, group_id: str, *statuses: str) -> list[MachineRow]:
    """Return a group's machines in these statuses, oldest first."""
    return list(
        session.scalars(
            select(MachineRow)
            .where(
                MachineRow.group_id == group_id,
                MachineRow.status.in_(statuses),
                MachineRow.terminated_at.is_(None),
            )
            .order_by(MachineRow.created_at)
        )
    )


def available_machines(session: Session, group_id: str) -> list[MachineRow]:
    """Return a group's machines that are up and not about to be reclaimed, oldest first."""
    return [m for m in machines_of(session, group_id, MACHINE_UP) if m.reclaim_at is None]


def _replace(
    rt: Runtime,
    group: GroupRow,
    provider: MachineProvider,
    machines: list[MachineRow],
    *,
    grace: GracePeriod | None,
    revives: bool,
) -> None:
    """Retire machines that are gone, silent or never joined; some providers bring them back."""
    launched = [m for m in machines if m.launched_at is not None]
    if not launched:
        return
    states = provider.observe({m.id: m.handle for m in launched})
    now, window = time.time(), rt.settings.register_s
    for machine in launched:
        if not machine.handle and now - (machine.launched_at or 0) < _LAUNCH_S:
            # Another process is launching it.
            continue
        if states[machine.id] is MachineState.GONE:
            if revives:
                _bring_back(rt, machine)
            else:
                retire(rt, group, machine, "It is gone.", taken=True)
        elif grace is not None:
            continue
        elif not provider.revives and _fell_silent(group, machine, launched, now):
            reason = f"It sent no heartbeat for {now - (machine.last_seen_at or 0):.0f} s."
            retire(rt, group, machine, reason)
        elif _never_came(machine) and now - (machine.launched_at or now) > window:
            reason = f"Machine {machine.name} did not join within {window:.0f} s of its launch."
            log.error("event=machine_never_joined group=%s machine=%s", group.id, machine.id)
            if retire(rt, group, machine, reason):
                _record_refusal(rt, group, f"{reason} It is replaced.")


def _bring_back(rt: Runtime, machine: MachineRow) -> None:
    """Have a machine launched again, unless another process has done so meanwhile."""
    with rt.store.write() as session:
        session.execute(
            update(MachineRow)
            .where(
                MachineRow.id == machine.id,
                MachineRow.status == MACHINE_UP,
                MachineRow.launched_at == machine.launched_at,
            )
            # With the old handle, it would seem to be gone while it is being launched.
            .values(launched_at=None, reclaim_at=None, handle={})
        )


def _never_came(machine: MachineRow) -> bool:
    return machine.last_seen_at is None or machine.last_seen_at < (machine.launched_at or 0)


def _fell_silent(
    group: GroupRow, machine: MachineRow, all_of_them: list[MachineRow], now: float
) -> bool:
    """Return whether a machine has been silent for too long.
    False where a large part of the group is silent: the cause is probably here."""

    def silent(one: MachineRow) -> bool:
        return not _never_came(one) and now - (one.last_seen_at or 0) > group.reconnect_s

    held_up = is_mass_loss(sum(map(silent, all_of_them)), len(all_of_them))
    return silent(machine) and not held_up


def retire(
    rt: Runtime, group: GroupRow, machine: MachineRow, reason: str, *, taken: bool = False
) -> bool:
    """Mark a machine as terminated, revoke its access, and have its provider end it.

    A machine that is marked already keeps its time and its reason.

    `machine`: the machine; its row may be stale. `reason`: a sentence for people. `taken`: whether
    its provider has taken it away, which for a spot machine is a reclaim.

    Returns whether it was not marked before.
    """
    now = time.time()
    facts: dict[str, Any] = {"drain_reason": reason}
    if taken and machine.spot:
        facts["reclaim_at"] = func.coalesce(MachineRow.reclaim_at, now)
    # Before it is ended, so that it counts as gone even if ending it takes several tries.
    with rt.store.write() as session:
        is_new = change_machine(session, machine.id, MachineStatus.DOWN, at=now, **facts)
        if is_new:
            log.warning(
                "event=machine_retired group=%s machine=%s %s", group.id, machine.id, reason
            )
            if "reclaim_at" in facts:
                trigger = NotificationTrigger.GROUP_PREEMPTION
                group_changed(session, group.id, trigger, now, machine.id)
    revoke(rt, group.id, [machine.id])
    rt.providers[group.provider].terminate(machine.id, machine.handle, force=True)
    return is_new


def _update(rt: Runtime, row: MachineRow | GroupRow, **values: object) -> None:
    kind = type(row)
    with rt.store.write() as session:
        session.execute(update(kind).where(kind.id == row.id).values(**values))


def _add_missing(rt: Runtime, group: GroupRow) -> None:
    """Add the machines that a group lacks; the lock keeps two processes from adding twice."""
    with rt.store.write() as session:
        locked = session.get_one(GroupRow, group.id, with_for_update=True)
        for _ in range(locked.num_machines - len(available_machines(session, group.id))):
            session.add(new_machine(group))


def _launch_due(rt: Runtime, group: GroupRow, provider: MachineProvider) -> None:
    """Launch the machines that wait for it, unless a refusal makes the group wait."""
    with rt.store.read() as session:
        waiting = [m for m in machines_of(session, group.id, MACHINE_UP) if m.launched_at is None]
        retry_at = session.scalars(select(GroupRow.retry_at).where(GroupRow.id == group.id)).one()
    if not waiting or time.time() < (retry_at or 0):
        return
    for machine in waiting:
        try:
            _launch(rt, group, provider, machine)
        except LaunchRefused as error:
            log.error("event=launch_refused group=%s %s", group.id, error)
            _record_refusal(
                rt, group, str(error), capacity=isinstance(error, NoCapacity | Uncertain)
            )
            return
    _update(rt, group, refusals=0, hard_refusals=0, retry_at=None, status_detail=None)


def _launch(rt: Runtime, group: GroupRow, provider: MachineProvider, machine: MachineRow) -> None:
    now = time.time()
    with rt.store.write() as session:
        taken = session.execute(
            update(MachineRow)
            .where(
                MachineRow.id == machine.id,
                MachineRow.status == MACHINE_UP,
                MachineRow.launched_at.is_(None),
            )
            .values(launched_at=now)
        )
    if taken.rowcount == 0:  # type: ignore[attr-defined]
        return
    try:
        spot, handle = _launch_or_fall_back(rt, group, provider, machine)
    except Uncertain:
        # If it was launched it joins with its ticket; otherwise it is replaced after a while.
        raise
    except LaunchRefused:
        _update(rt, machine, launched_at=None)
        raise
    price = group.price_hour if spot == group.spot else _on_demand_price(rt, group)
    log.info("event=machine_launched group=%s machine=%s spot=%s", group.id, machine.id, spot)
    _update(rt, machine, handle=handle, spot=spot, price_hour=price)


def _launch_or_fall_back(
    rt: Runtime, group: GroupRow, provider: MachineProvider, machine: MachineRow
) -> tuple[bool, dict[str, object]]:
    """Launch a machine; on demand where there is no spot capacity and the group allows that."""

    def plan(spot: bool) -> MachinePlan:
        return MachinePlan(
            machine.id,
            group.id,
            machine.name,
            group.machine_type,
            group.zone,
            spot,
            group.vcpus,
            group.memory_bytes,
            group.disk_size_gb,
            new_ticket(rt, machine.id),
        )

    try:
        return group.spot, provider.launch(plan(group.spot))
    except NoCapacity as error:
        if not (group.spot and group.on_demand_fallback):
            raise
        log.warning("event=on_demand_fallback group=%s %s", group.id, error)
        return False, provider.launch(plan(False))


def _on_demand_price(rt: Runtime, group: GroupRow) -> float:
    with rt.store.read() as session:
        kind = priced_machine_types(session, rt.catalogue).get(group.machine_type)
    return kind.on_demand if kind is not None else group.price_hour


def _record_refusal(rt: Runtime, group: GroupRow, sentence: str, *, capacity: bool = True) -> None:
    """Show why there is no machine, and wait before the next launch."""
    now = time.time()
    with rt.store.write() as session:
        row = session.get_one(GroupRow, group.id, with_for_update=True)
        row.refusals += 1
        row.hard_refusals = 0 if capacity else row.hard_refusals + 1
        row.status_detail, row.retry_at = sentence, now + _BACKOFF.after(row.refusals)
        if row.status == GroupStatus.STARTING:
            group_changed(session, group.id, NotificationTrigger.GROUP_PENDING_START, now)
        launched = any(m.launched_at for m in machines_of(session, group.id, MACHINE_UP))
        has_failed = has_failed_to_start(row.hard_refusals, has_machines=launched)
        if has_failed and row.status == GroupStatus.STARTING:
            row.refusals, row.hard_refusals, row.retry_at = 0, 0, None
            change_group(session, group.id, GroupStatus.START_FAILED, at=now)


def _mark_started(rt: Runtime, group_id: str) -> None:
    """A group has started when one of its machines has joined, or when it needs none."""
    with rt.store.write() as session:
        group = session.get_one(GroupRow, group_id)
        if group.status != GroupStatus.STARTING:
            return
        machines = machines_of(session, group_id, MACHINE_UP)
        if not group.num_machines or any(not _never_came(m) for m in machines):
            change_group(session, group_id, GroupStatus.STARTED, at=time.time())
