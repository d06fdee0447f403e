"""What a Simherd on one machine has from the start: a user, a key, a machine group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.domain.group_status import ACTIVE, ENDING, UP, GroupStatus
from scheduler.services.accounts.users import create_key, create_user, key_digest, user_of_key
from scheduler.services.groups import register, terminate
from scheduler.services.groups.sharing import set_default
from scheduler.store.models import ApiKey, GroupRow, User
from simherd.contract.limits import DEFAULT_GROUP

if TYPE_CHECKING:
    from scheduler.wiring import Runtime

_USERNAME = "local"
_MACHINE_TYPE = "local"
_WIRE_PROVIDER = "LOCAL"
#: What tasks may put on this machine's disk, as far as there is room.
_DISK_GB = 100


def bootstrap(rt: Runtime) -> bool:
    """Have the user, the key, and the group with as many machines as the settings say, if any.

    Run before the API is up and while no machine runs. The group keeps its tasks.

    Returns whether the key is usable. One that was revoked stays so.

    Raises:
        ValueError: no key is set.
        QuotaExceeded: the settings ask for more machines than this host can hold.
        Refused: the group cannot be had, for its provider is off, say.
    """
    settings = rt.settings
    if settings.bootstrap_key is None:
        raise ValueError("set SIMHERD_BOOTSTRAP_KEY")
    with rt.store.write() as session:
        user = session.scalar(select(User).where(User.username == _USERNAME))
        if user is None:
            quotas = settings.quotas_of_new_users
            user = create_user(session, _USERNAME, "local@localhost", quotas=quotas)
            user.is_operator = True
        key = settings.bootstrap_key.get_secret_value()
        if session.get(ApiKey, key_digest(key)) is None:
            create_key(session, user.id, "simherd up", key)
            session.flush()
        is_key_usable = user_of_key(session, key) is not None
        user_id = user.id
    if settings.bootstrap_machines > 0:
        _start_first_group(rt, user_id)
    return is_key_usable


def _start_first_group(rt: Runtime, user_id: str) -> None:
    group = _first_group(rt, user_id)
    _make_default(rt, group)
    register.resize_group(rt, group.id, rt.settings.bootstrap_machines)
    if group.status not in UP:
        register.start_group(rt, group, by_settings=True)


def _make_default(rt: Runtime, group: GroupRow) -> None:
    """Have tasks go to it that name no group, unless an operator has chosen another."""
    with rt.store.write() as session:
        chosen = select(GroupRow.id).where(GroupRow.is_default, GroupRow.status.in_(ACTIVE))
        is_operator = session.get_one(User, group.user_id).is_operator
        if is_operator and session.scalar(chosen.limit(1)) is None:
            set_default(session, "bootstrap", group.id, is_default=True)


def _first_group(rt: Runtime, user_id: str) -> GroupRow:
    with rt.store.read() as session:
        group = session.scalar(
            select(GroupRow).where(GroupRow.user_id == user_id, GroupRow.name == DEFAULT_GROUP)
        )
    if group is not None and group.status in ENDING:
        terminate.shut_down_group(rt, group.id)
        group = None
    if group is not None and group.status != GroupStatus.TERMINATED:
        return group
    request = register.GroupRequest(
        _MACHINE_TYPE, _WIRE_PROVIDER, name=DEFAULT_GROUP, spot=False, disk_size_gb=_DISK_GB
    )
    return register.register_group(rt, user_id, request)
