"""The machine groups that a user may send tasks to, and the one that a name stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from scheduler.domain.group_status import ACCEPTING, ACTIVE, UP
from scheduler.services.errors import Conflict, Forbidden, ResourceNotFound
from scheduler.store.models import GroupRow, GroupShare, User
from simherd.contract.limits import DEFAULT_GROUP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime

#: Groups that an error names at the most.
_NAMED = 5


def usable_by(user_id: str) -> ColumnElement[bool]:
    """The condition that a user may send tasks to a machine group: it is theirs, an operator has
    shared it with everyone, or it is shared with them and they have accepted that."""
    accepted = (
        select(GroupShare.group_id)
        .where(
            GroupShare.group_id == GroupRow.id,
            GroupShare.user_id == user_id,
            GroupShare.accepted_at.is_not(None),
        )
        .exists()
    )
    return or_(GroupRow.user_id == user_id, GroupRow.shared, accepted)


def may_use(session: Session, group: GroupRow, user_id: str) -> bool:
    """Return whether a user may send tasks to a group."""
    query = select(GroupRow.id).where(GroupRow.id == group.id, usable_by(user_id))
    return session.scalar(query) is not None


def is_shared(session: Session, group: GroupRow) -> bool:
    """Return whether users other than its owner may send tasks to a group and so take turns."""
    if group.shared:
        return True
    accepted = select(GroupShare.group_id).where(
        GroupShare.group_id == group.id, GroupShare.accepted_at.is_not(None)
    )
    return session.scalar(accepted.limit(1)) is not None


def usable_group(session: Session, group: GroupRow | None, user_id: str, group_id: str) -> GroupRow:
    """Return a group if a user may send tasks to it.
    Raises ResourceNotFound: there is none, or it is another user's and not shared with this one."""
    if group is None or not may_use(session, group, user_id):
        raise ResourceNotFound(
            f"resource_pool: there is no machine group with the id {group_id!r}. "
            "`simherd resources list` shows yours."
        )
    return group


def named_group(session: Session, user_id: str, name: str) -> GroupRow:
    """Return the group that a name stands for: the user's own, else one shared with them.

    The user's own group that is terminated is found only where none is shared with them.

    Raises ResourceNotFound: there is none that the user may use.
    """
    named = select(GroupRow).where(GroupRow.name == name)
    own = session.scalar(named.where(GroupRow.user_id == user_id))
    if own is not None and own.status in ACTIVE:
        return own
    # The oldest: several of one name are left from releases that did not check names.
    shared = named.where(usable_by(user_id), GroupRow.status.in_(ACTIVE))
    group = session.scalar(shared.order_by(GroupRow.created_at).limit(1)) or own
    if group is None:
        raise ResourceNotFound(_no_group(session, user_id, name))
    return group


def own_group(session: Session, user_id: str, name: str) -> GroupRow:
    """Return a user's own group by name. Raises ResourceNotFound."""
    query = select(GroupRow).where(GroupRow.user_id == user_id, GroupRow.name == name)
    group = session.scalar(query)
    if group is None:
        raise ResourceNotFound(f"name: you have no machine group {name!r}.")
    return group


def _no_group(session: Session, user_id: str, name: str) -> str:
    """Return why a name stands for no group, such as an offer that is not accepted yet."""
    offered = (
        select(User.username)
        .join(GroupRow, GroupRow.user_id == User.id)
        .join(GroupShare, GroupShare.group_id == GroupRow.id)
        .where(
            GroupRow.name == name,
            GroupRow.status.in_(ACTIVE),
            GroupShare.user_id == user_id,
            GroupShare.accepted_at.is_(None),
        )
        .order_by(User.username)
    )
    owners = session.scalars(offered.limit(_NAMED)).all()
    if not owners:
        return f"name: there is no machine group {name!r}."
    choice = f" --from {owners[0]}" if len(owners) > 1 else ""
    return (
        f"name: the machine group {name!r} of {', '.join(owners)} is offered to you: "
        f"`simherd resources accept {name}{choice}` lets you use it."
    )


def default_group(session: Session, user_id: str) -> GroupRow:
    """Return the group of a task that names none.

    It is the user's own group `local`, which older clients name; or else the operator's default,
    if the user may use it; or else the user's only group that is started.

    Raises ResourceNotFound: there is none of these; the message says what to do.
    """
    mine = GroupRow.user_id == user_id
    usual = and_(mine, GroupRow.name == DEFAULT_GROUP)
    chosen = and_(GroupRow.is_default, usable_by(user_id))
    for wanted in (usual, chosen):
        accepting = GroupRow.status.in_(ACCEPTING)
        group = session.scalar(select(GroupRow).where(wanted, accepting).limit(1))
        if group is not None:
            return group
    own = session.scalars(
        select(GroupRow)
        .where(mine, GroupRow.status.in_(UP))
        .order_by(GroupRow.created_at)
        .limit(_NAMED)
    ).all()
    if len(own) == 1:
        return own[0]
    raise ResourceNotFound(
        "resource_pool: no machine group is named, and this server has no default for you. "
        + _what_to_do(own)
    )


def _what_to_do(own: Sequence[GroupRow]) -> str:
    if own:
        names = ", ".join(group.name for group in own)
        return f"You have several: name one of them (`--on NAME`), such as {names}."
    return "Start a group (`simherd resources start TYPE`), or name one that is shared with you."


def check_name(rt: Runtime, session: Session, user: User, name: str) -> None:
    """Refuse the name of a new group that stands for another group to somebody.

    Raises:
        Forbidden: the name is reserved, and the user is not an operator.
        Conflict: a group of this name is shared with the user.
    """
    if name in rt.settings.reserved_names and not user.is_operator:
        raise Forbidden(f"name: {name!r} is reserved for operators. Choose another name.")
    owner = _owner_of_another(session, name, usable_by(user.id), GroupRow.user_id != user.id)
    if owner is not None:
        raise Conflict(
            f"name: a machine group {name!r} of {owner} is shared with you. Choose another name."
        )


def check_sight(session: Session, group: GroupRow, user: User) -> None:
    """Raises Conflict: the user may use another group that has this one's name."""
    owner = _owner_of_another(session, group.name, GroupRow.id != group.id, usable_by(user.id))
    if owner is not None:
        raise Conflict(
            f"group: {user.username} has or sees another machine group {group.name!r}, that of "
            f"{owner}. One of the two must have another name."
        )


def check_unique(session: Session, group: GroupRow) -> None:
    """Raises Conflict: anybody has another group of this one's name."""
    owner = _owner_of_another(session, group.name, GroupRow.id != group.id)
    if owner is not None:
        raise Conflict(
            f"group: {owner} has another machine group {group.name!r}, so that this one cannot be "
            "shared with everyone. One of the two must have another name."
        )


def _owner_of_another(session: Session, name: str, *conditions: ColumnElement[bool]) -> str | None:
    """Return the user name of the owner of an active group of this name, if there is one."""
    owners = select(User.username).join(GroupRow, GroupRow.user_id == User.id)
    named = owners.where(GroupRow.name == name, GroupRow.status.in_(ACTIVE), *conditions)
    return session.scalar(named.limit(1))
