"""How machines join a group, and the secrets that admit them. See `simherd.contract.join`."""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import select, update

from scheduler.domain.group_status import MPI, UP
from scheduler.domain.limits import JOIN_S
from scheduler.providers.base import LaunchTicket
from scheduler.queue import acl
from scheduler.services.accounts.provider_access import check_provider_on, provider_off_reason
from scheduler.services.errors import Conflict, Forbidden, Invalid
from scheduler.services.ids import new_uuid
from scheduler.store.machine_state import MACHINE_DOWN, MACHINE_UP
from scheduler.store.models import GroupRow, MachineRow, User
from simherd.contract.join import Membership, digest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from scheduler.wiring import Runtime

log = logging.getLogger(__name__)


def new_ticket(rt: Runtime, machine_id: str) -> LaunchTicket:
    """Return a ticket with which a machine joins once, within `JOIN_S`.
    The machine's secret, if it had one, is not accepted any more."""
    token = f"join_{secrets.token_urlsafe(32)}"
    with rt.store.write() as session:
        session.execute(
            update(MachineRow)
            .where(MachineRow.id == machine_id)
            .values(
                join_digest=digest(token), join_expires_at=time.time() + JOIN_S, secret_digest=None
            )
        )
    return LaunchTicket(rt.settings.api_url_of_machines, token)


def new_machine(group: GroupRow, launched_at: float | None = None) -> MachineRow:
    """Return the row of a new machine of a group; `launched_at`: None if it is to be launched."""
    machine_id = new_uuid()
    return MachineRow(
        id=machine_id,
        group_id=group.id,
        name=f"{group.name}-{machine_id[:4]}",
        status=MACHINE_UP,
        handle={},
        created_at=time.time(),
        launched_at=launched_at,
        spot=group.spot,
        price_hour=group.price_hour,
    )


def invite(rt: Runtime, group: GroupRow) -> LaunchTicket:
    """Add a machine that a user starts by hand to a group, and return its ticket.

    Raises:
        Invalid: the group's machines are launched by its provider.
        Conflict: the group is not started, or its provider is off.
    """
    if not rt.providers[group.provider].by_hand:
        raise Invalid(
            f"Machine group {group.name!r} has the provider {group.provider!r}, which launches "
            "its machines. Start a group with the provider 'external' for machines of your own."
        )
    if group.status not in UP:
        raise Conflict(f"Machine group {group.name!r} is {group.status}. Start it first.")
    check_provider_on(rt, group)
    machine = new_machine(group, launched_at=time.time())
    with rt.store.write() as session:
        session.add(machine)
    return new_ticket(rt, machine.id)


def join(rt: Runtime, token: str, secret_digest: str) -> Membership:
    """Admit the machine that a ticket was made for.

    `secret_digest`: SHA-256 of the secret that the machine has generated.

    Raises:
        Forbidden: the ticket is unknown, has expired, or was used by another machine, or the
            provider of machines that are started by hand is off.
        Conflict: the group is quarantined.
    """
    with rt.store.write() as session:
        machine = session.scalar(
            select(MachineRow).where(MachineRow.join_digest == digest(token)).with_for_update()
        )
        if machine is None or machine.status == MACHINE_DOWN:
            raise Forbidden("token: this join token is not known. Have a new one made.")
        if time.time() > (machine.join_expires_at or 0):
            raise Forbidden("token: this join token is too old. Have a new one made.")
        if machine.secret_digest not in (None, secret_digest):
            raise Forbidden("token: this join token was used by another. Have a new one made.")
        group = session.get_one(GroupRow, machine.group_id)
        if group.quarantined_at is not None:
            raise Conflict(
                f"group: {group.name!r} is quarantined: {group.quarantine_reason}. An operator "
                "repairs it; this machine can join afterwards."
            )
        # Machines that a provider has launched are paid for: those join all the same.
        off = provider_off_reason(rt, group, session.get_one(User, group.user_id))
        if off is not None and rt.providers[group.provider].by_hand:
            raise Forbidden(f"token: {off}")
        machine.secret_digest, machine.secret_at = secret_digest, time.time()
    # Redis loses the scripts when it is restarted.
    acl.load_scripts(rt.queue.servers.of(group.id))
    _admit(rt, group.id, group.group_type, machine.id, secret_digest)
    log.info("event=machine_joined group=%s machine=%s", group.id, machine.id)
    return _membership(rt, group, machine)


def _membership(rt: Runtime, group: GroupRow, machine: MachineRow) -> Membership:
    url = urlsplit(rt.settings.machines_redis(group.redis_server))
    by_hand = rt.providers[group.provider].by_hand
    return Membership(
        machine_id=machine.id,
        machine_name=machine.name,
        group_id=group.id,
        # Without the scheduler's credentials.
        redis_url=urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2])),
        machine_type=group.machine_type,
        vcpus=0 if by_hand else group.vcpus,
        memory_bytes=0 if by_hand else group.memory_bytes,
        disk_bytes=group.disk_size_gb * 1024**3,
        reconnect_s=round(group.reconnect_s),
        policy=group.policy,
        machines=group.num_machines,
        mpi=group.group_type == MPI,
    )


def change_secret(rt: Runtime, machine_id: str, old: str, new_digest: str) -> None:
    """Replace a machine's secret. Repeating it changes nothing.
    Raises Forbidden: `old` is not its present secret."""
    with rt.store.write() as session:
        machine = known_machine(session, machine_id, old, also=new_digest)
        machine.secret_digest, machine.secret_at = new_digest, time.time()
        group = session.get_one(GroupRow, machine.group_id)
    if group.quarantined_at is None:
        _admit(rt, group.id, group.group_type, machine_id, new_digest)


def _admit(rt: Runtime, group_id: str, group_type: str, machine_id: str, secret: str) -> None:
    client = rt.queue.servers.of(group_id)
    acl.grant_acl(client, group_id, machine_id, [secret], gangs=group_type == MPI)


def known_machine(session: Session, machine_id: str, secret: str, also: str = "") -> MachineRow:
    """Return the machine that presents its secret.

    `also`: the digest of a second secret that is accepted.

    Raises Forbidden: the secret is not this machine's, or the machine was terminated.
    """
    machine = session.get(MachineRow, machine_id)
    accepted = {digest(secret), also} - {""}
    if machine is None or machine.status == MACHINE_DOWN or machine.secret_digest not in accepted:
        raise Forbidden("This machine is not, or no longer, let in.")
    return machine


def revoke(rt: Runtime, group_id: str, machine_ids: list[str]) -> None:
    """Revoke the secrets and tickets of machines of a group."""
    with rt.store.write() as session:
        session.execute(
            update(MachineRow)
            .where(MachineRow.id.in_(machine_ids))
            .values(secret_digest=None, join_digest=None)
        )
    for machine_id in machine_ids:
        acl.revoke_acl(rt.queue.servers.of(group_id), machine_id)


def readmit(rt: Runtime, group_id: str) -> None:
    """Grant the machines of a group access to Redis again, with their present secrets."""
    client = rt.queue.servers.of(group_id)
    acl.load_scripts(client)
    with rt.store.read() as session:
        group = session.get_one(GroupRow, group_id)
        machines = session.execute(
            select(MachineRow.id, MachineRow.secret_digest).where(
                MachineRow.group_id == group_id,
                MachineRow.status != MACHINE_DOWN,
                MachineRow.secret_digest.is_not(None),
            )
        ).all()
    for machine_id, secret_digest in machines:
        _admit(rt, group_id, group.group_type, machine_id, str(secret_digest))


def restore_access(rt: Runtime, server: str) -> None:
    """Grant all machines of a Redis server access again, if it was restarted and lost its users."""
    client = rt.queue.servers.named(server)
    info: Any = client.info("server")
    run_id = str(info["run_id"])
    if not acl.acl_lost(client, run_id):
        return
    acl.load_scripts(client)
    with rt.store.read() as session:
        rows = session.execute(
            select(GroupRow.id, GroupRow.group_type, MachineRow.id, MachineRow.secret_digest)
            .join(MachineRow, MachineRow.group_id == GroupRow.id)
            .where(
                MachineRow.status != MACHINE_DOWN,
                MachineRow.secret_digest.is_not(None),
                GroupRow.redis_server == server,
                GroupRow.quarantined_at.is_(None),
            )
        ).all()
    for group_id, group_type, machine_id, secret_digest in rows:
        _admit(rt, group_id, group_type, machine_id, str(secret_digest))
    acl.mark_acl(client, run_id)
    log.info("event=access_restored server=%s machines=%s", server, len(rows))
