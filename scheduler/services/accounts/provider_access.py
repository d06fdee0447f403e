"""The providers of machines that are on: for a deployment (`SIMHERD_PROVIDERS`) and for a user.

A provider that is off starts no machines. Those that it started before are still observed, drained
and terminated, since machines cost money as long as they run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from scheduler.config import PROVIDERS
from scheduler.domain.group_status import ACTIVE
from scheduler.services.accounts.admin_users import named_user
from scheduler.services.accounts.audit import add_audit_entry
from scheduler.services.errors import Conflict, Invalid
from scheduler.store.machine_state import MACHINE_DOWN
from scheduler.store.models import GroupRow, MachineRow, User

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from scheduler.providers.base import MachineProvider
    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)

#: The beginning of the sentence that a group shows while its provider is off.
_OFF = "No machines are started: the provider"


def providers_of(rt: Runtime, user: User) -> tuple[str, ...]:
    """Return the providers that a user may start machines with."""
    on = rt.settings.enabled_providers
    if user.providers is None:
        return on
    return tuple(name for name in on if name in user.providers)


def choose_provider(rt: Runtime, user: User, named: str | None, wire_provider: str) -> str:
    """Return the provider of a new group.

    `named`: the provider that the request names, if any; `wire_provider`: the wire's provider id,
    which the operator's table maps to providers.

    Raises Invalid: it is not known, or not on for the user; the message says which are.
    """
    on = providers_of(rt, user)
    if named is not None:
        if named not in on:
            raise Invalid(f"provider: {named!r} is not available to you. {_there_are(on)}")
        return named
    table = wire_providers(rt, on)
    if wire_provider in table:
        return table[wire_provider]
    if on and wire_provider in rt.catalogue.providers:
        # Clients send it by default: the name would mean nothing to a user.
        raise Invalid(
            "provider: the server's usual provider is not available to you. "
            f"{_there_are(on)} Name one (`--from NAME`)."
        )
    if not on:
        raise Invalid(f"provider: no provider is available to you. {_there_are(on)}")
    raise Invalid(
        f"provider_id: {wire_provider!r} is not available to you. {_there_are(sorted(table))}"
    )


def wire_providers(rt: Runtime, on: Sequence[str]) -> Mapping[str, str]:
    """Return the operator's table: wire provider id → its first provider that is in `on`."""
    found = {}
    for wire, names in rt.catalogue.providers.items():
        chosen = next((name for name in names if name in on), None)
        if chosen is not None:
            found[wire] = chosen
    return found


def _there_are(names: Sequence[str]) -> str:
    if not names:
        return "There are none: you may start no machines. Ask an operator."
    return f"There are: {', '.join(names)}."


def provider_off_reason(rt: Runtime, group: GroupRow, owner: User) -> str | None:
    """Return why a group must not start machines, as a sentence; None: it may."""
    if group.provider not in rt.settings.enabled_providers:
        return f"{_OFF} {group.provider!r} is switched off on this server. Ask an operator."
    if owner.providers is not None and group.provider not in owner.providers:
        return f"{_OFF} {group.provider!r} is switched off for {owner.username}. Ask an operator."
    return None


def check_provider_on(rt: Runtime, group: GroupRow) -> None:
    """Refuse a group whose provider is off. Raises Conflict."""
    with rt.store.read() as session:
        reason = provider_off_reason(rt, group, session.get_one(User, group.user_id))
    if reason is not None:
        raise Conflict(f"machine group {group.name!r}: {reason}")


def update_provider_detail(rt: Runtime, group: GroupRow) -> bool:
    """Return whether a group may start machines; if not, store why as its detail."""
    with rt.store.read() as session:
        reason = provider_off_reason(rt, group, session.get_one(User, group.user_id))
    shown = group.status_detail or ""
    if reason is not None and shown != reason:
        log.warning("event=provider_off group=%s provider=%s", group.id, group.provider)
        _set_detail(rt, group, reason)
    elif reason is None and shown.startswith(_OFF):
        _set_detail(rt, group, None)
    return reason is None


def _set_detail(rt: Runtime, group: GroupRow, detail: str | None) -> None:
    with rt.store.write() as session:
        session.execute(
            update(GroupRow).where(GroupRow.id == group.id).values(status_detail=detail)
        )


def providers_in_use(rt: Runtime) -> dict[str, MachineProvider]:
    """Return the providers that are on, and those of machines and groups that have not ended."""
    groups = select(GroupRow.provider).where(GroupRow.status.in_(ACTIVE))
    machines = (
        select(GroupRow.provider)
        .join(MachineRow, MachineRow.group_id == GroupRow.id)
        .where(MachineRow.status != MACHINE_DOWN, MachineRow.terminated_at.is_(None))
    )
    with rt.store.read() as session:
        used = {*session.scalars(groups.distinct()), *session.scalars(machines.distinct())}
    wanted = used.union(rt.settings.enabled_providers)
    return {name: rt.providers[name] for name in PROVIDERS if name in wanted}


def log_groups_without_provider(rt: Runtime) -> None:
    """Log the number of groups of each provider that is off."""
    query = (
        select(GroupRow.provider, func.count())
        .where(GroupRow.status.in_(ACTIVE), GroupRow.provider.not_in(rt.settings.enabled_providers))
        .group_by(GroupRow.provider)
    )
    with rt.store.read() as session:
        found = session.execute(query).all()
    for provider, groups in found:
        log.warning("event=provider_off provider=%s groups=%s", provider, groups)
    if not rt.settings.enabled_providers:
        log.warning("event=no_providers set SIMHERD_PROVIDERS so that machines can be started")


def set_providers(
    session: Session, actor: str, username: str, providers: Sequence[str] | None
) -> None:
    """Set the providers that a user may start machines with; None: all that are on.

    The user's machines go on; groups of other providers start no further ones.

    Raises:
        ResourceNotFound: there is no such user.
        Invalid: a provider is not known.
    """
    user = named_user(session, username, lock=True)
    for name in providers or ():
        if name not in PROVIDERS:
            raise Invalid(
                f"providers: {name!r} is not a provider. There are: {', '.join(PROVIDERS)}."
            )
    user.providers = None if providers is None else sorted(set(providers))
    add_audit_entry(session, actor, "providers_set", user.username, providers=user.providers)
