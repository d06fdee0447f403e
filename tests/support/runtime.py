"""The scheduler's parts on a real database and a real Redis, with machines that tests command."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scheduler.config import Settings
from scheduler.domain.limits import LEAST_SIGNING_KEY
from scheduler.providers.base import MachineState, ProviderMachine
from scheduler.recorder import Recorder
from scheduler.store.machine_state import MACHINE_UP
from scheduler.store.models import MachineRow
from scheduler.wiring import Runtime
from simherd.contract.queue.keys import GroupKeys
from simherd.contract.reports import Report, ReportKind
from tests.support.queue import waiting_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from scheduler.providers.base import MachinePlan


#: The moment before the first report, seconds since the epoch: long before every task was made.
REPORTED_AT = 1_700_000_000.0


class Machines:
    """A provider whose machines are as a test says."""

    revives = True
    by_hand = False

    def __init__(self) -> None:
        self.states: dict[str, MachineState] = {}
        self.launched: list[str] = []

    def launch(self, plan: MachinePlan) -> dict[str, Any]:
        """See `MachineProvider`."""
        self.launched.append(plan.machine_id)
        self.states[plan.machine_id] = MachineState.RUNNING
        return {"name": plan.name}

    def terminate(self, machine_id: str, handle: dict[str, Any], *, force: bool) -> bool:
        """See `MachineProvider`."""
        self.states[machine_id] = MachineState.GONE
        return True

    def observe(self, machines: Mapping[str, dict[str, Any]]) -> dict[str, MachineState]:
        """See `MachineProvider`."""
        return {m: self.states.get(m, MachineState.GONE) for m in machines}

    def list_machines(self) -> list[ProviderMachine]:
        """See `MachineProvider`."""
        return []


def make_runtime(
    database_url: str, redis_url: str, folder: Path, **more: Any
) -> tuple[Runtime, Machines]:
    """The parts, with `more` settings, and the provider of the machines named `local`."""
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        broker_url=redis_url,
        signing_key="k" * LEAST_SIGNING_KEY,
        storage_dir=folder,
        grace_s=0,
        **{"providers": "local", **more},
    )
    rt, machines = Runtime(settings), Machines()
    rt.__dict__["providers"] = {"local": machines}
    return rt, machines


@contextmanager
def recording(rt: Runtime) -> Iterator[None]:
    """A recorder at work."""
    stop, recorder = threading.Event(), Recorder(rt)
    thread = threading.Thread(target=recorder.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        recorder.wake()
        thread.join()


def waiting(rt: Runtime, group: str) -> list[str]:
    """Every waiting attempt of a group, first one first."""
    return waiting_in(rt.queue.servers.of(group), group)


def machine_of(group: str) -> str:
    """The machine of a group that reports in tests."""
    return f"m-{group}"


def add_machine(rt: Runtime, group: str, machine: str) -> None:
    """Let a machine be one of a group's, unless it is known already."""
    with rt.store.write() as session:
        if session.get(MachineRow, machine) is None:
            session.add(
                MachineRow(
                    id=machine,
                    group_id=group,
                    name=machine,
                    status=MACHINE_UP,
                    handle={},
                    created_at=time.time(),
                    launched_at=time.time(),
                )
            )


def report(
    rt: Runtime, group: str, task: str, attempt: int, number: int, kind: ReportKind, **body: Any
) -> None:
    """Append a report of the machine `machine_of(group)`; the n-th is of `REPORTED_AT` + n."""
    machine = machine_of(group)
    add_machine(rt, group, machine)
    event = Report(kind, task, attempt, number, REPORTED_AT + number, machine, body)
    rt.queue.servers.of(group).xadd(GroupKeys(group).events, {"e": event.encode()})
