"""The operators' view of users."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from scheduler.domain.group_status import UP
from scheduler.services.accounts import users as accounts
from scheduler.services.accounts.audit import add_audit_entry
from scheduler.services.errors import Conflict, Invalid, ResourceNotFound
from scheduler.services.tasks.kill import kill_task
from scheduler.store.models import ApiKey, GroupRow, TaskRow, User
from simherd.contract.lifecycle import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class UserState:
    """A user, with the numbers of their tasks that have not ended and their groups that are up."""

    user: User
    tasks: int
    groups: int


def named_user(session: Session, username: str, *, lock: bool = False) -> User:
    """Return a user by name, locked if `lock`. Raises ResourceNotFound."""
    query = select(User).where(User.username == username)
    user = session.scalar(query.with_for_update() if lock else query)
    if user is None:
        raise ResourceNotFound(f"username: there is no user {username!r}.")
    return user


def user_states(session: Session, username: str | None = None) -> list[UserState]:
    """Return every user, sorted by name, or one. Raises ResourceNotFound."""
    if username is not None:
        users = [named_user(session, username)]
    else:
        users = list(session.scalars(select(User).order_by(User.username)))
    tasks = select(TaskRow.user_id, func.count()).where(TaskRow.status.not_in(_ended()))
    groups = select(GroupRow.user_id, func.count()).where(GroupRow.status.in_(UP))
    open_tasks = {u: n for u, n in session.execute(tasks.group_by(TaskRow.user_id))}
    up = {u: n for u, n in session.execute(groups.group_by(GroupRow.user_id))}
    return [UserState(u, open_tasks.get(u.id, 0), up.get(u.id, 0)) for u in users]


def _ended() -> list[str]:
    return [status.value for status in TERMINAL]


def create_user(
    session: Session,
    actor: str,
    username: str,
    email: str,
    *,
    operator: bool = False,
    quotas: Mapping[str, float] | None = None,
) -> User:
    """Create a user, without a key; `quotas`: see `users.create_user`.

    Raises:
        Invalid: the name or the address is not allowed.
        Conflict: there is a user of that name.
    """
    if not _USERNAME.fullmatch(username):
        raise Invalid(
            f"username: {username[:80]!r} is not 1 to 64 of letters, digits and . _ @ -, "
            "beginning with a letter or a digit."
        )
    if email.count("@") != 1 or not email.isprintable() or " " in email or len(email) > 254:
        raise Invalid(f"email: {email[:80]!r} is not an address such as ada@example.org.")
    if session.scalar(select(User.id).where(User.username == username)) is not None:
        raise Conflict(f"username: there is a user {username!r} already.")
    user = accounts.create_user(session, username, email, quotas=quotas)
    user.is_operator = operator
    add_audit_entry(session, actor, "user_create", username, email=email, operator=operator)
    return user


def set_operator(session: Session, actor: str, username: str, operator: bool) -> None:
    """Make a user an operator, or not. Doing so again changes nothing.

    Raises:
        ResourceNotFound: no such user.
        Conflict: there would be no operator left.
    """
    lock_operators(session)
    user = named_user(session, username, lock=True)
    if user.is_operator == operator:
        return
    if not operator:
        _check_others(session, user)
    user.is_operator = operator
    add_audit_entry(session, actor, "operator_on" if operator else "operator_off", username)


def disable_user(rt: Runtime, actor: str, username: str, *, kill: bool = False) -> int:
    """Refuse a user's keys from now on; their groups go on, and their tasks unless `kill`.

    Returns how many tasks were killed.

    `kill`: whether to kill their tasks that have not ended.

    Raises:
        ResourceNotFound: no such user.
        Conflict: there would be no operator left.
    """
    with rt.store.write() as session:
        lock_operators(session)
        user = named_user(session, username, lock=True)
        if user.disabled_at is None:
            if user.is_operator:
                _check_others(session, user)
            user.disabled_at = time.time()
            add_audit_entry(session, actor, "user_disable", username, kill=kill)
        open_tasks = select(TaskRow.id).where(
            TaskRow.user_id == user.id, TaskRow.status.not_in(_ended())
        )
        tasks = session.scalars(open_tasks).all() if kill else []
        if tasks:
            add_audit_entry(session, actor, "tasks_kill", username, tasks=len(tasks))
    for task_id in tasks:
        kill_task(rt, user.id, task_id)
    return len(tasks)


def enable_user(session: Session, actor: str, username: str) -> None:
    """Accept a disabled user's keys again. Raises ResourceNotFound."""
    user = named_user(session, username, lock=True)
    if user.disabled_at is not None:
        user.disabled_at = None
        add_audit_entry(session, actor, "user_enable", username)


def lock_operators(session: Session) -> None:
    """Lock out other transactions that could leave the server without an operator's key.
    Lock no user's row before it: of two operators that remove each other at once, one stays."""
    enabled = select(User.id).where(User.is_operator, User.disabled_at.is_(None))
    session.execute(enabled.order_by(User.id).with_for_update()).all()


def _check_others(session: Session, user: User) -> None:
    """Refuse to remove the last operator. Raises Conflict."""
    others = select(User.id).join(ApiKey, ApiKey.user_id == User.id)
    others = others.where(User.is_operator, User.disabled_at.is_(None), User.id != user.id)
    if session.scalars(others.where(accounts.is_usable()).limit(1)).first() is None:
        raise Conflict(
            f"username: {user.username!r} is the only operator with a usable key. Make another "
            "one first: `simherd admin users operator NAME on`, `simherd admin keys create NAME`."
        )
