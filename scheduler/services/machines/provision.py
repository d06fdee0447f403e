"""The machines of a group: launching them, replacing those that are gone or never came."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from scheduler.domain.group_status import UP, GroupStatus
from scheduler.providers.base import (
    LaunchRefused,
    MachinePlan,
    MachineState,
    NoCapacity,
    Uncertain,
)
from scheduler.services.accounts.provider_access import note_state
from scheduler.services.billing.prices import machine_types
from scheduler.services.ids import new_uuid
from scheduler.services.machines.access import new_ticket, revoke
from scheduler.store.machine_state import MACHINE_DOWN, MACHINE_UP
from scheduler.store.models import GroupRow, MachineRow
from scheduler.store.outbox import group_changed
from simherd.contract import limits
from simherd.contract.notifications import NotificationTrigger
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.providers.base import MachineProvider
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: Before a launch that the provider refused is tried again.
_BACKOFF = Backoff(10.0, 300.0)
#: Refusals in a row, for want of nothing but capacity excepted, after which a group that has not
#: had a machine yet is said to have failed to start.
_START_TRIES = 3
#: Seconds that a launch takes at the most.
_LAUNCH_S = 120.0


def scale_group(rt: Runtime, group_id: str, *, patient: bool = True) -> None:
    """Bring a group's machines to the number it should have; replace those that died.

    `patient`: none is replaced for being silent, since it may be us who do not hear them.
    """
    with rt.store.read() as session:
        group = session.get(GroupRow, group_id)
        machines = machines_of(session, group_id, MACHINE_UP)
    if group is None or group.status not in UP:
        return
    provider = rt.providers[group.provider]
    is_on = note_state(rt, group)
    if not provider.by_hand:
        # Where the provider is off, what is there is looked after, and nothing takes its place.
        revives = provider.revives and is_on
        _replace(rt, group, provider, machines, patient=patient, revives=revives)
        if is_on:
            _add_missing(rt, group)
            _launch_due(rt, group, provider)
    else:
        _forget_uninvited(rt, group, machines)
    _settle_status(rt, group_id)


def _forget_uninvited(rt: Runtime, group: GroupRow, machines: list[MachineRow]) -> None:
    """Strike the machines off that nobody started with the ticket that was made for them."""
    now = time.time()
    for machine in machines:
        if _never_came(machine) and now - (machine.launched_at or now) > limits.JOIN_S:
            retire(rt, group, machine, "Nobody started it with its token.")


def machines_of(session: Session, group_id: str, *statuses: str) -> list[MachineRow]:
    """A group's machines in these states that have not been terminated, oldest first."""
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


def _replace(
    rt: Runtime,
    group: GroupRow,
    provider: MachineProvider,
    machines: list[MachineRow],
    *,
    patient: bool,
    revives: bool,
) -> None:
    """Let go of machines that are gone or never joined; a provider may bring them back."""
    launched = [m for m in machines if m.launched_at is not None]
    if not launched:
        return
    states = provider.observe({m.id: m.handle for m in launched})
    now, window = time.time(), rt.settings.register_s
    for machine in launched:
        if not machine.handle and now - (machine.launched_at or 0) < _LAUNCH_S:
            # Somebody launches it just now.
            continue
        if states[machine.id] is MachineState.GONE:
            if revives:
                _bring_back(rt, machine)
            else:
                retire(rt, group, machine, "It is gone.", taken=True)
        elif patient:
            continue
        elif not provider.revives and _fell_silent(group, machine, launched, now):
            reason = f"It was not heard of for {now - (machine.last_seen_at or 0):.0f} s."
            retire(rt, group, machine, reason)
        elif _never_came(machine) and now - (machine.launched_at or now) > window:
            reason = f"Machine {machine.name} did not join within {window:.0f} s of its launch."
            log.error("event=machine_never_joined group=%s machine=%s", group.id, machine.id)
            retire(rt, group, machine, reason)
            _note_refusal(rt, group, f"{reason} It is replaced.")


def _bring_back(rt: Runtime, machine: MachineRow) -> None:
    """Have a machine launched again, unless another has done so since it was looked at."""
    with rt.store.write() as session:
        session.execute(
            update(MachineRow)
            .where(MachineRow.id == machine.id, MachineRow.launched_at == machine.launched_at)
            # Without the old handle, by which it would seem to be gone while it is being launched.
            .values(launched_at=None, reclaim_at=None, handle={})
        )


def _never_came(machine: MachineRow) -> bool:
    return machine.last_seen_at is None or machine.last_seen_at < (machine.launched_at or 0)


def _fell_silent(
    group: GroupRow, machine: MachineRow, all_of_them: list[MachineRow], now: float
) -> bool:
    """Whether a machine that is there does nothing for its money any more.

    Not where a large part of the group is silent: it is probably us.
    """

    def silent(one: MachineRow) -> bool:
        return not _never_came(one) and now - (one.last_seen_at or 0) > group.reconnect_s

    together = sum(map(silent, all_of_them))
    held_up = together >= limits.MASS_LOSS_MINIMUM and together > limits.MASS_LOSS_SHARE * len(
        all_of_them
    )
    return silent(machine) and not held_up


def retire(
    rt: Runtime, group: GroupRow, machine: MachineRow, reason: str, *, taken: bool = False
) -> None:
    """Take a machine off the list, and end what may be left of it.

    `taken`: its provider has taken it away, which for a spot machine is a reclaim.
    """
    log.warning("event=machine_retired group=%s machine=%s %s", group.id, machine.id, reason)
    now = time.time()
    reclaim_at = machine.reclaim_at or (now if taken and machine.spot else None)
    # Marked first: whoever asks for it is to know it gone even if ending it takes several tries.
    with rt.store.write() as session:
        session.execute(
            update(MachineRow)
            .where(MachineRow.id == machine.id)
            .values(
                status=MACHINE_DOWN, terminated_at=now, drain_reason=reason, reclaim_at=reclaim_at
            )
        )
        if taken and machine.spot:
            group_changed(session, group.id, NotificationTrigger.GROUP_PREEMPTION, now, machine.id)
    revoke(rt, group.id, [machine.id])
    rt.providers[group.provider].terminate(machine.id, machine.handle, force=True)


def _set_machine(rt: Runtime, machine: MachineRow, **values: object) -> None:
    with rt.store.write() as session:
        session.execute(update(MachineRow).where(MachineRow.id == machine.id).values(**values))


def _add_missing(rt: Runtime, group: GroupRow) -> None:
    """Note the machines that a group lacks. Counted and added in one go: two may do this."""
    now = time.time()
    with rt.store.write() as session:
        locked = session.scalars(
            select(GroupRow).where(GroupRow.id == group.id).with_for_update()
        ).one()
        there = [m for m in machines_of(session, group.id, MACHINE_UP) if m.reclaim_at is None]
        for _ in range(locked.num_machines - len(there)):
            machine_id = new_uuid()
            session.add(
                MachineRow(
                    id=machine_id,
                    group_id=group.id,
                    name=f"{group.name}-{machine_id[:4]}",
                    status=MACHINE_UP,
                    handle={},
                    created_at=now,
                    spot=group.spot,
                    price_hour=group.price_hour,
                )
            )


def _launch_due(rt: Runtime, group: GroupRow, provider: MachineProvider) -> None:
    """Launch what was noted but not launched, unless the provider has asked for patience."""
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
            _note_refusal(rt, group, str(error), capacity=isinstance(error, NoCapacity | Uncertain))
            return
    _group_values(rt, group.id, refusals=0, hard_refusals=0, retry_at=None, status_detail=None)


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
        spot, handle = _ask_for(rt, group, provider, machine)
    except Uncertain:
        # If it is there after all it joins with its ticket; else it is replaced after a while.
        raise
    except LaunchRefused:
        _set_machine(rt, machine, launched_at=None)
        raise
    price = group.price_hour if spot == group.spot else _on_demand_price(rt, group)
    log.info("event=machine_launched group=%s machine=%s spot=%s", group.id, machine.id, spot)
    _set_machine(rt, machine, handle=handle, spot=spot, price_hour=price)


def _ask_for(
    rt: Runtime, group: GroupRow, provider: MachineProvider, machine: MachineRow
) -> tuple[bool, dict[str, object]]:
    """Launch it as the group wants it, or on demand where there is no spot and that will do."""

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
        kind = machine_types(session, rt.catalogue).get(group.machine_type)
    return kind.on_demand if kind is not None else group.price_hour


def _note_refusal(rt: Runtime, group: GroupRow, sentence: str, *, capacity: bool = True) -> None:
    """Have people see why there is no machine, and wait before the next try."""
    now = time.time()
    with rt.store.write() as session:
        row = session.scalars(
            select(GroupRow).where(GroupRow.id == group.id).with_for_update()
        ).one()
        row.refusals += 1
        row.hard_refusals = 0 if capacity else row.hard_refusals + 1
        row.status_detail, row.retry_at = sentence, now + _BACKOFF.after(row.refusals)
        if row.status == GroupStatus.STARTING:
            group_changed(session, group.id, NotificationTrigger.GROUP_PENDING_START, now)
        launched = any(m.launched_at for m in machines_of(session, group.id, MACHINE_UP))
        hopeless = row.hard_refusals >= _START_TRIES and not launched
        if hopeless and row.status == GroupStatus.STARTING:
            row.status = GroupStatus.START_FAILED.value
            row.refusals, row.hard_refusals, row.retry_at = 0, 0, None


def _settle_status(rt: Runtime, group_id: str) -> None:
    """A group has started when one of its machines has joined, or when it needs none."""
    with rt.store.write() as session:
        group = session.get_one(GroupRow, group_id)
        if group.status != GroupStatus.STARTING:
            return
        machines = machines_of(session, group_id, MACHINE_UP)
        if not group.num_machines or any(not _never_came(m) for m in machines):
            group.status = GroupStatus.STARTED.value


def _group_values(rt: Runtime, group_id: str, **values: object) -> None:
    with rt.store.write() as session:
        session.execute(update(GroupRow).where(GroupRow.id == group_id).values(**values))
