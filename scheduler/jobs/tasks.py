"""The bodies of the background jobs: each calls one service."""

from __future__ import annotations

import logging
import time

from scheduler.domain.limits import MAIN_SERVER
from scheduler.jobs.app import app, runtime, started_at
from scheduler.services.control import orphans
from scheduler.services.control.sweep import SWEEP, sweep_in_turn
from scheduler.services.groups import terminate
from scheduler.services.machines import provision
from scheduler.services.notifications.deliver import deliver_due
from scheduler.services.storage import transfers
from scheduler.services.storage.transfer_worker import carry_on
from scheduler.services.watch.observers import notify_observers

log = logging.getLogger(__name__)


@app.task(name=SWEEP)  # type: ignore[untyped-decorator]
def sweep(server: str = MAIN_SERVER) -> None:
    """Leases, lost tasks, machines and limits of the groups on one Redis server."""
    sweep_in_turn(runtime(), server, started_at())


@app.task(name="end_again")  # type: ignore[untyped-decorator]
def end_again() -> None:
    """Machines that were terminated and are still there, and what they could do."""
    orphans.end_again(runtime())
    orphans.revoke_again(runtime())


@app.task(name=transfers.JOB)  # type: ignore[untyped-decorator]
def transfer() -> None:
    """A turn for a fetch or export of the user who has waited longest."""
    carry_on(runtime())


@app.task(name="forget_transfers")  # type: ignore[untyped-decorator]
def forget_transfers() -> None:
    """Fetches and exports that ended long ago."""
    transfers.forget_ended(runtime(), time.time())


@app.task(name="scale_group")  # type: ignore[untyped-decorator]
def scale_group(group_id: str) -> None:
    """Bring a group's machines to their number."""
    provision.scale_group(runtime(), group_id)


@app.task(name="shut_down_group")  # type: ignore[untyped-decorator]
def shut_down_group(group_id: str) -> None:
    """End a group's tasks and stop its machines."""
    terminate.shut_down_group(runtime(), group_id)


@app.task(name="deliver")  # type: ignore[untyped-decorator]
def deliver() -> None:
    """Webhooks and e-mails that are due, and observers that executors may lack."""
    notify_observers(runtime())
    deliver_due(runtime(), time.time())
