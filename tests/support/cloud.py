"""A provider whose machines a test commands, and groups on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from executor.link.connection import Address
from executor.link.lease import LeaseKeeper, new_token
from scheduler.providers.base import LaunchRefused, MachineState, ProviderMachine
from scheduler.services.machines import access
from scheduler.services.machines.provision import machines_of, scale_group
from scheduler.store.machine_state import MACHINE_UP
from scheduler.store.models import GroupRow, MachineRow
from simherd.contract.join import digest, redis_user
from tests.support.builders import make_group
from tests.support.runtime import Machines, make_runtime

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from scheduler.wiring import Runtime


class Cloud(Machines):
    """Machines that do not come back, from a provider that may refuse."""

    revives = False

    def __init__(self) -> None:
        super().__init__()
        self.refuses: list[LaunchRefused] = []
        self.plans: list[Any] = []

    def launch(self, plan: Any) -> dict[str, Any]:
        """See `MachineProvider`."""
        self.plans.append(plan)
        if self.refuses:
            raise self.refuses.pop(0)
        return super().launch(plan)

    def list_machines(self) -> list[ProviderMachine]:
        """See `MachineProvider`."""
        running = [m for m, state in self.states.items() if state is MachineState.RUNNING]
        return [ProviderMachine(m, "", {}) for m in running]


class Fleet:
    """A group on that cloud."""

    def __init__(self, rt: Runtime, cloud: Cloud, redis_url: str) -> None:
        self.rt, self.cloud, self.redis_url = rt, cloud, redis_url

    def group(self, **fields: Any) -> GroupRow:
        """A group that has been asked to start."""
        values = {"status": "starting", "started_at": time.time(), "num_machines": 2, **fields}
        with self.rt.store.write() as session:
            return make_group(session, **values)

    def now(self, group: GroupRow) -> GroupRow:
        """The group as it is."""
        with self.rt.store.read() as session:
            return session.get_one(GroupRow, group.id)

    def up(self, group: GroupRow) -> list[MachineRow]:
        """Its machines."""
        with self.rt.store.read() as session:
            return machines_of(session, group.id, MACHINE_UP)

    def scale(self, group: GroupRow) -> list[MachineRow]:
        """What the sweep does; return the machines."""
        scale_group(self.rt, group.id, grace=None)
        return self.up(group)

    def join(self, machine: MachineRow) -> str:
        """The machine joins and beats once; return its secret."""
        plan = next(p for p in reversed(self.cloud.plans) if p.machine_id == machine.id)
        secret = new_token()
        access.join(self.rt, plan.ticket.token, digest(secret))
        keeper = LeaseKeeper(self.address(machine.id, secret), machine.group_id, machine.id)
        keeper.beat([])
        keeper.close()
        self.set(machine, last_seen_at=time.time())
        return secret

    def address(self, machine_id: str, secret: str) -> Address:
        """How a machine reaches Redis."""
        return Address(self.redis_url, redis_user(machine_id), lambda: secret)

    def set(self, row: MachineRow | GroupRow, **values: Any) -> None:
        """Let a row be otherwise, as time makes it."""
        with self.rt.store.write() as session:
            found = session.get_one(type(row), row.id)
            for name, value in values.items():
                setattr(found, name, value)


def open_fleet(database_url: str, redis_url: str, tmp_path: Path) -> Fleet:
    """On this database and this Redis."""
    rt, _ = make_runtime(database_url, redis_url, tmp_path)
    cloud = Cloud()
    rt.__dict__["providers"] = {"local": cloud}
    return Fleet(rt, cloud, redis_url)


def raw(client: redis.Redis, *words: Any) -> Any:
    """A command as Redis itself takes it."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]
