"""Sharing machine groups: by an operator at once, or by their owner once the other has accepted.

The owner of a group's machines can read what is sent there, so nobody uses another user's group
without an operator's decision or their own.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import aliased

from scheduler.domain.group_status import ACCEPTING, ACTIVE, GroupStatus
from scheduler.domain.limits import MAX_GROUP_SHARES
from scheduler.services.accounts.admin_users import named_user
from scheduler.services.accounts.audit import add_audit_entry
from scheduler.services.errors import Conflict, Invalid, ResourceNotFound
from scheduler.services.groups.access import check_sight, check_unique, own_group
from scheduler.services.groups.admin import group_state
from scheduler.store.models import GroupRow, GroupShare, User

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShareOffer:
    """A group that is shared with a user, accepted or not."""

    group: GroupRow
    share: GroupShare
    #: The group's owner, and the user with whom it is shared.
    owner: str
    username: str


def share_with(
    session: Session,
    actor: str,
    named: str,
    usernames: Sequence[str],
    *,
    everyone: bool,
    owner: str | None = None,
) -> GroupRow:
    """Let users send tasks to a group, as an operator: they need not accept it.

    Raises:
        Invalid: nobody is named.
        ResourceNotFound: no such user.
        Conflict: the group has ended, or somebody sees another one of its name.
    """
    group = group_state(session, named, owner).group
    if not everyone and not usernames:
        raise Invalid("with: name users, or share with everyone.")
    group = _locked(session, group)
    if everyone and not group.shared:
        check_unique(session, group)
        group.shared = True
    for username in dict.fromkeys(usernames):
        user = named_user(session, username)
        check_sight(session, group, user)
        _put(session, group, user, actor, time.time())
    add_audit_entry(
        session,
        actor,
        "group_share",
        group.name,
        group=group.id,
        everyone=everyone,
        users=list(usernames),
    )
    return group


def unshare_with(
    session: Session, actor: str, named: str, usernames: Sequence[str], owner: str | None = None
) -> GroupRow:
    """Take back what a group is shared with: these users, or everyone and all of them.

    Tasks that were submitted stay and go on; no more can be submitted.

    Raises ResourceNotFound: no such user.
    """
    # Locked by who submits a task, too: what was let in before is made before this.
    row = _row(session, group_state(session, named, owner).group.id)
    shares = delete(GroupShare).where(GroupShare.group_id == row.id)
    if usernames:
        ids = [named_user(session, username).id for username in usernames]
        shares = shares.where(GroupShare.user_id.in_(ids))
    else:
        row.shared = False
    session.execute(shares)
    add_audit_entry(session, actor, "group_unshare", row.name, group=row.id, users=list(usernames))
    return row


def set_default(
    session: Session, actor: str, named: str, *, is_default: bool, owner: str | None = None
) -> GroupRow:
    """Make a group the one that tasks go to that name none, in place of the one before.
    Raises Conflict: it has ended, or does not belong to an operator."""
    state = group_state(session, named, owner)
    group = _locked(session, state.group) if is_default else _row(session, state.group.id)
    if is_default and not state.is_owner_operator:
        raise Conflict(
            f"group: {group.name!r} belongs to {state.username}, who is not an operator. The "
            "default must be an operator's group."
        )
    session.execute(
        update(GroupRow)
        .where(GroupRow.is_default, GroupRow.id != group.id)
        .values(is_default=False)
    )
    group.is_default = is_default
    add_audit_entry(
        session, actor, "group_default", group.name, group=group.id, is_default=is_default
    )
    return group


def offer(session: Session, user: User, name: str, username: str) -> None:
    """Offer another user to send tasks to one's own group; it holds once they accept.

    Raises:
        Invalid: it is the owner.
        ResourceNotFound: no such user.
        Conflict: the group has ended, or is shared with as many as can be.
    """
    group = own_group(session, user.id, name)
    other = named_user(session, username)
    if other.id == user.id:
        raise Invalid("username: the group is yours already.")
    group = _locked(session, group)
    if session.get(GroupShare, (group.id, other.id)) is None:
        count = select(func.count()).where(GroupShare.group_id == group.id)
        if (session.scalar(count) or 0) >= MAX_GROUP_SHARES:
            raise Conflict(
                f"Machine group {group.name!r} is shared with {MAX_GROUP_SHARES} users, "
                "which is the most. Ask an operator to share it with everyone."
            )
        _put(session, group, other, user.username, None)
    log.info("event=group_offered group=%s by=%s to=%s", group.id, user.username, username)


def withdraw(session: Session, user: User, name: str, username: str) -> None:
    """Take back what one has offered, accepted or not. Tasks that were submitted go on.
    Raises ResourceNotFound: the group is not shared with this user."""
    group = own_group(session, user.id, name)
    other = named_user(session, username)
    _remove(session, group.id, other.id, f"username: {group.name!r} is not shared with {username}.")
    log.info("event=group_withdrawn group=%s by=%s from=%s", group.id, user.username, username)


def accept(session: Session, user: User, group_id: str) -> GroupRow:
    """Accept a group that was offered. Doing so again changes nothing.

    Raises:
        ResourceNotFound: no such offer.
        Conflict: the group has ended, or the user sees another one of its name.
    """
    share = session.get(GroupShare, (group_id, user.id))
    if share is None:
        raise ResourceNotFound(_no_offer(group_id))
    group = _locked(session, session.get_one(GroupRow, group_id))
    if share.accepted_at is None:
        check_sight(session, group, user)
        share.accepted_at = time.time()
        log.info("event=group_accepted group=%s by=%s", group.id, user.username)
    return group


def decline(session: Session, user: User, group_id: str) -> None:
    """Refuse a group that was offered, or stop using it. Raises ResourceNotFound."""
    _remove(session, group_id, user.id, _no_offer(group_id))


def offers_to(session: Session, user_id: str) -> list[ShareOffer]:
    """Return the groups offered to a user by name, accepted or not, the oldest first."""
    return _offers(session, GroupShare.user_id == user_id)


def shares_of(session: Session, group_id: str) -> list[ShareOffer]:
    """Return the users to whom a group is offered by name, accepted or not."""
    return _offers(session, GroupShare.group_id == group_id)


def shares_of_own(session: Session, user_id: str, name: str) -> list[ShareOffer]:
    """Return with whom a user's own group is shared, accepted or not. Raises ResourceNotFound."""
    return shares_of(session, own_group(session, user_id, name).id)


def _offers(session: Session, condition: ColumnElement[bool]) -> list[ShareOffer]:
    owner, other = aliased(User), aliased(User)
    rows = session.execute(
        select(GroupRow, GroupShare, owner.username, other.username)
        .join(GroupShare, GroupShare.group_id == GroupRow.id)
        .join(owner, owner.id == GroupRow.user_id)
        .join(other, other.id == GroupShare.user_id)
        .where(condition, GroupRow.status.in_(ACTIVE))
        .order_by(GroupShare.created_at, GroupShare.group_id, GroupShare.user_id)
    )
    return [ShareOffer(*row) for row in rows]


def _no_offer(group_id: str) -> str:
    return f"group: no machine group {group_id!r} is offered to you. `simherd resources offers`."


def _row(session: Session, group_id: str) -> GroupRow:
    return session.get_one(GroupRow, group_id, with_for_update=True)


def _locked(session: Session, group: GroupRow) -> GroupRow:
    """Return the group, locked. Raises Conflict: it has ended or is ending."""
    row = _row(session, group.id)
    if row.status not in ACCEPTING | {GroupStatus.START_FAILED}:
        raise Conflict(f"group: machine group {row.name!r} is {row.status}.")
    return row


def _put(
    session: Session, group: GroupRow, user: User, actor: str, accepted_at: float | None
) -> None:
    if user.id == group.user_id:
        return
    session.merge(
        GroupShare(
            group_id=group.id,
            user_id=user.id,
            granted_by=actor,
            created_at=time.time(),
            accepted_at=accepted_at,
        )
    )
    session.flush()


def _remove(session: Session, group_id: str, user_id: str, sentence: str) -> None:
    share = session.get(GroupShare, (group_id, user_id))
    if share is None:
        raise ResourceNotFound(sentence)
    _row(session, group_id)  # see `unshare_with`
    session.delete(share)
