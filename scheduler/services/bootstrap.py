"""What a Simherd on one machine has from the start: a user, a key, a machine group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from scheduler.domain.group_status import ACTIVE, ENDING, UP, GroupStatus
from scheduler.services.accounts.users import create_key, create_user, digest, user_of_key
from scheduler.services.groups import register, terminate
from scheduler.services.groups.sharing import set_default
from scheduler.store.models import ApiKey, MachineGroup, User
from simherd.contract.limits import DEFAULT_GROUP

if TYPE_CHECKING:
    from scheduler.wiring import Parts

_USERNAME = "local"
_MACHINE_TYPE = "local"
_WIRE_PROVIDER = "LOCAL"
#: What tasks may put on this machine's disk, as far as there is room.
_DISK_GB = 100


def first_start(parts: Parts) -> bool:
    """Have the user, the key, and the group with as many machines as the settings say, if any.

    Run before the API is up and while no machine runs. The group keeps its tasks.

    Returns:
        Whether the key is usable. One that was revoked stays so.

    Raises:
        ValueError: no key is set.
        QuotaExceeded: the settings ask for more machines than this host can hold.
        Refused: the group cannot be had, for its provider is off, say.
    """
    settings = parts.settings
    if settings.bootstrap_key is None:
        raise ValueError("set SIMHERD_BOOTSTRAP_KEY")
    with parts.store.write() as session:
        user = session.scalar(select(User).where(User.username == _USERNAME))
        if user is None:
            quotas = settings.quotas_of_new_users
            user = create_user(session, _USERNAME, "local@localhost", quotas=quotas)
            user.is_operator = True
        key = settings.bootstrap_key.get_secret_value()
        if session.get(ApiKey, digest(key)) is None:
            create_key(session, user.id, "simherd up", key)
            session.flush()
        is_key_usable = user_of_key(session, key) is not None
        user_id = user.id
    if settings.bootstrap_machines > 0:
        _start_first_group(parts, user_id)
    return is_key_usable


def _start_first_group(parts: Parts, user_id: str) -> None:
    group = _first_group(parts, user_id)
    _make_default(parts, group)
    register.resize_group(parts, group.id, parts.settings.bootstrap_machines)
    if group.status not in UP:
        register.start_group(parts, group, by_settings=True)


def _make_default(parts: Parts, group: MachineGroup) -> None:
    """Have tasks go to it that name no group, unless an operator has chosen another."""
    with parts.store.write() as session:
        chosen = select(MachineGroup.id).where(
            MachineGroup.is_default, MachineGroup.status.in_(ACTIVE)
        )
        is_operator = session.get_one(User, group.user_id).is_operator
        if is_operator and session.scalar(chosen.limit(1)) is None:
            set_default(session, "bootstrap", group, is_default=True)


def _first_group(parts: Parts, user_id: str) -> MachineGroup:
    with parts.store.read() as session:
        group = session.scalar(
            select(MachineGroup).where(
                MachineGroup.user_id == user_id, MachineGroup.name == DEFAULT_GROUP
            )
        )
    if group is not None and group.status in ENDING:
        terminate.shut_down_group(parts, group.id)
        group = None
    if group is not None and group.status != GroupStatus.TERMINATED:
        return group
    request = register.GroupRequest(
        _MACHINE_TYPE, _WIRE_PROVIDER, name=DEFAULT_GROUP, spot=False, disk_size_gb=_DISK_GB
    )
    return register.register_group(parts, user_id, request)
