"""The quotas of users: set by the operator, checked where a user wants more.

A group that is up counts with the most machines that it may grow to, since an elastic group can
always grow that far. A group that is only registered uses nothing yet, so that a
client can wait with it until there is room.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from scheduler.domain.group_status import UP
from scheduler.services.accounts.audit import add_audit_entry
from scheduler.services.billing.prices import priced_machine_types
from scheduler.services.errors import Invalid, QuotaExceeded, ResourceNotFound
from scheduler.services.machines.caps import most_machines
from scheduler.services.storage.usage import used_bytes
from scheduler.store.models import GroupRow, TaskRow, User
from simherd.contract.lifecycle import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from scheduler.catalogue.tables import Catalogue, MachineType
    from scheduler.wiring import Runtime

_GIB = 1024**3
#: The statuses of tasks that have not started.
_QUEUED = (Status.PENDING_INPUT.value, Status.SUBMITTED.value)


class Quota(StrEnum):
    """A quota by its name on the wire; the first three are the contract's, the others ours."""

    MAX_PRICE_HOUR = "max_price_hour"
    MAX_VCPUS = "max_vcpus"
    MAX_INSTANCES = "max_instances"
    MAX_QUEUED_TASKS = "max_queued_tasks"
    MAX_STORAGE_GB = "max_storage_gb"

    @property
    def label(self) -> str:
        """Its name for people."""
        return _WORDS[self][0]

    @property
    def unit(self) -> str:
        """Its unit."""
        return _WORDS[self][1]


_WORDS = {
    Quota.MAX_PRICE_HOUR: ("Price of all machines", "USD/h"),
    Quota.MAX_VCPUS: ("vCPUs of all machines", "vcpu"),
    Quota.MAX_INSTANCES: ("Machines", "machine"),
    Quota.MAX_QUEUED_TASKS: ("Tasks that wait", "task"),
    Quota.MAX_STORAGE_GB: ("Storage", "GiB"),
}


@dataclass(frozen=True)
class QuotaState:
    """One quota of a user. `allowed` None: unlimited; `in_use` None: not counted yet."""

    quota: Quota
    allowed: float | None
    in_use: float | None


def quotas_of(rt: Runtime, user_id: str) -> Mapping[str, float]:
    """Return a user's quotas by name; a missing one is unlimited."""
    with rt.store.read() as session:
        return dict(session.scalars(select(User.quotas).where(User.id == user_id)).one())


def change_quota(
    session: Session, actor: str, username: str, name: str, value: float | None
) -> None:
    """Set a user's quota, as `set_quota`, and add an entry to the audit log."""
    set_quota(session, username, name, value)
    add_audit_entry(session, actor, "quota_set", username, quota=name, value=value)


def set_quota(session: Session, username: str, name: str, value: float | None) -> None:
    """Set a user's quota; None: unlimited. What is in use stays, even if it is more.

    Raises:
        ResourceNotFound: no such user.
        Invalid: no such quota, or the value is negative or infinite.
    """
    user = session.scalar(select(User).where(User.username == username).with_for_update())
    if user is None:
        raise ResourceNotFound(f"username: there is no user {username!r}.")
    if name not in set(Quota):
        raise Invalid(f"name: there is no quota {name!r}. There are: {', '.join(Quota)}.")
    if value is not None and not 0 <= value < float("inf"):
        raise Invalid(f"value: {value} is not a number of 0 or more.")
    kept = {k: v for k, v in user.quotas.items() if k != name}
    user.quotas = kept if value is None else {**kept, name: value}


def give_defaults(
    session: Session, actor: str, defaults: Mapping[str, float], username: str | None
) -> dict[str, list[str]]:
    """Set the quotas of `defaults` that a user does not have; those that were set stay.

    `defaults`: quota name → value. `username`: the user; None: every user.

    Returns username → the names of the quotas that were set; users who had all are left out.

    Raises ResourceNotFound: no such user.
    """
    query = select(User).order_by(User.username).with_for_update()
    if username is not None:
        query = query.where(User.username == username)
    users = session.scalars(query).all()
    if username is not None and not users:
        raise ResourceNotFound(f"username: there is no user {username!r}.")
    changes: dict[str, list[str]] = {}
    for user in users:
        missing = {name: v for name, v in defaults.items() if name not in user.quotas}
        if missing:
            user.quotas = {**user.quotas, **missing}
            changes[user.username] = sorted(missing)
            add_audit_entry(session, actor, "quota_defaults", user.username, **missing)
    return changes


def quota_states(rt: Runtime, user: User) -> list[QuotaState]:
    """Return every quota of a user, and how much of it is in use."""
    with rt.store.read() as session:
        used: dict[Quota, float | None] = {
            **_machines_in_use(session, rt.catalogue, user.id),
            Quota.MAX_QUEUED_TASKS: _queued(session, user.id),
        }
    stored = used_bytes(rt, user.id)
    used[Quota.MAX_STORAGE_GB] = None if stored is None else stored / _GIB
    return [QuotaState(q, user.quotas.get(q.value), used[q]) for q in Quota]


def check_alone(rt: Runtime, session: Session, group: GroupRow) -> None:
    """Refuse a new group that could never be started, whatever else is in use.
    Raises QuotaExceeded: it is larger than its user's quotas."""
    allowed = locked_quotas(session, group.user_id)
    if not allowed:
        return
    for quota, amount in _needs(priced_machine_types(session, rt.catalogue), group).items():
        limit = allowed.get(quota.value)
        if limit is not None and not _fits(amount, limit):
            raise QuotaExceeded(
                f"{quota}: {amount:g} asked for is more than the {limit:g} allowed altogether. "
                f"{how_to_raise(quota)}"
            )


def check_start(rt: Runtime, session: Session, group: GroupRow) -> None:
    """Refuse a group that exceeds the quotas together with the user's groups that are up.

    Two that are started at once are checked one after the other.

    Raises QuotaExceeded: there is not enough left.
    """
    allowed = locked_quotas(session, group.user_id)
    if allowed:
        used = _machines_in_use(session, rt.catalogue, group.user_id)
        _check(allowed, used, _needs(priced_machine_types(session, rt.catalogue), group))


def check_queue(
    session: Session, user_id: str, allowed: Mapping[str, float], more: int = 1
) -> None:
    """Refuse `more` further tasks if the user would have more in the queue than allowed.
    Raises QuotaExceeded: there are too many."""
    name = Quota.MAX_QUEUED_TASKS
    if name.value in allowed:
        allowed = locked_quotas(session, user_id)  # locks: of two submissions, one counts the other
        _check(allowed, {name: _queued(session, user_id)}, {name: more})


def locked_quotas(session: Session, user_id: str) -> Mapping[str, float]:
    """Return a user's quotas, locked until the transaction ends if there are any."""
    query = select(User.quotas).where(User.id == user_id)
    allowed = session.scalars(query).one()
    # A weaker lock than others that write the row: rows that refer to it may be made meanwhile.
    return session.scalars(query.with_for_update(key_share=True)).one() if allowed else {}


def _check(
    allowed: Mapping[str, float], used: Mapping[Quota, float], needs: Mapping[Quota, float]
) -> None:
    for quota, more in needs.items():
        limit, in_use = allowed.get(quota.value), used.get(quota, 0)
        if limit is not None and not _fits(in_use + more, limit):
            raise QuotaExceeded(_sentence(quota, limit, in_use, more))


def _fits(amount: float, limit: float) -> bool:
    # A sum of prices is not exact.
    return amount <= limit * (1 + 1e-9)


def _sentence(quota: Quota, allowed: float, in_use: float, more: float | None = None) -> str:
    asked = "" if more is None else f", {more:g} more asked for"
    return f"{quota}: {allowed:g} allowed, {in_use:g} in use{asked}. {how_to_raise(quota)}"


def how_to_raise(quota: Quota) -> str:
    """Return a sentence on how a quota is raised."""
    return f"An operator can raise it: `simherd admin quotas set USERNAME {quota} VALUE`."


def _needs(kinds: Mapping[str, MachineType], group: GroupRow) -> dict[Quota, float]:
    """Return what a group uses at its largest size and its highest price."""
    machines = most_machines(group)
    price, kind = group.price_hour, kinds.get(group.machine_type)
    if group.spot and group.on_demand_fallback and kind is not None:
        price = max(price, kind.on_demand)
    return {
        Quota.MAX_INSTANCES: machines,
        Quota.MAX_VCPUS: machines * group.vcpus,
        Quota.MAX_PRICE_HOUR: machines * price,
    }


def _machines_in_use(session: Session, catalogue: Catalogue, user_id: str) -> dict[Quota, float]:
    names = (Quota.MAX_INSTANCES, Quota.MAX_VCPUS, Quota.MAX_PRICE_HOUR)
    used: dict[Quota, float] = dict.fromkeys(names, 0)
    kinds = priced_machine_types(session, catalogue)
    for group in session.scalars(
        select(GroupRow).where(GroupRow.user_id == user_id, GroupRow.status.in_(UP))
    ):
        for quota, amount in _needs(kinds, group).items():
            used[quota] += amount
    return used


def _queued(session: Session, user_id: str) -> int:
    query = select(func.count()).where(TaskRow.user_id == user_id, TaskRow.status.in_(_QUEUED))
    return session.scalar(query) or 0
