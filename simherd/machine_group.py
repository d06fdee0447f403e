"""A machine group: what it is, and what can be done with it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from simherd import users
from simherd.contract import limits
from simherd.described import Described
from simherd.errors import ApiError, InvalidInput
from simherd.http import api
from simherd.utils import parse_duration
from simherd.visible import say

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds between two looks at the quotas while `start` waits for room in them.
_QUOTA_POLL_S = 2.0


class VCPUCount(NamedTuple):
    """vCPUs of all machines of a group, and of one."""

    total: int
    per_machine: int


class MachineGroup(Described):
    """A group of equal machines with one queue.

    Example:
        group = MachineGroup("c2-standard-4", num_machines=2)
        group.start()
    """

    def __init__(
        self,
        machine_type: str = "local",
        num_machines: int = 1,
        *,
        name: str | None = None,
        spot: bool = True,
        disk_size_gb: int = 10,
        provider: str = "GCP",
        zone: str | None = None,
        threads_per_core: int = 2,
        max_idle_time: str | float | timedelta | None = "3m",
        auto_terminate_minutes: float | None = None,
        auto_terminate_ts: datetime | None = None,
        reconnect_window: str | float = limits.RECONNECT_WINDOW_S,
        policy: Mapping[str, Any] | None = None,
        max_machines: int | None = None,
        min_machines: int | None = None,
        machines_from: str | None = None,
        shared: bool = False,
        on_demand_fallback: bool = False,
        mpi: bool = False,
    ) -> None:
        """Register a group; `start` launches its machines.

        Args:
            machine_type: one of `get_available_machine_types()`.
            num_machines: how many machines.
            name: lower-case letters, digits and hyphens; by default one is made up.
            spot: use machines that the provider may reclaim, which cost less.
            disk_size_gb: the disk of each machine.
            provider: the wire's provider name; the server's operator maps it to a real one.
            zone: where the machines are to be; by default the machine type's own zone.
            threads_per_core: 1 or 2.
            max_idle_time: terminate the group when it had nothing to do for so long; a bare number
                is seconds.
            auto_terminate_minutes: terminate the group so long after now, whatever it does.
            auto_terminate_ts: the same as a moment, with its time zone.
            reconnect_window: for how long a machine that is silent, but not known to be gone,
                keeps its tasks.
            policy: what its containers may do beyond the strict default; the fields of
                `simherd.contract.policy.Policy`, such as `{"network": True}`.
            max_machines: with this the group is elastic: it has between `min_machines` (by
                default `num_machines`) and this many, as its queue needs them.
            min_machines: see there; may be 0.
            machines_from: which of the server's providers launches the machines: `local`,
                `docker`, `ec2`, or `external` for machines that are started by hand.
            shared: every user of the server may send tasks to the group; they take turns. For
                operators; others offer a group to single users, see `simherd.sharing`.
            on_demand_fallback: have machines on demand while there is no spot capacity.
            mpi: all machines work on one task together.

        Raises:
            InvalidInput: an argument is not usable.
            ApiError: the server does not offer this.
        """
        if num_machines < 1:
            raise InvalidInput(f"num_machines: {num_machines} must be at least 1.")
        self._fields = self._register(
            {
                "machine_type": machine_type,
                "provider_id": provider,
                "num_vms": num_machines,
                "name": name,
                "spot": spot,
                "disk_size_gb": disk_size_gb,
                "zone": zone,
                "threads_per_core": threads_per_core,
                "max_idle_time": _idle(max_idle_time),
                "auto_terminate_ts": _deadline(auto_terminate_minutes, auto_terminate_ts),
                "reconnect_s": parse_duration(reconnect_window, "reconnect_window"),
                "policy": dict(policy or {}),
                "is_elastic": max_machines is not None,
                "min_vms": num_machines if min_machines is None else min_machines,
                "max_vms": max_machines,
                "provider": machines_from,
                "shared": shared,
                "on_demand_fallback": on_demand_fallback,
                "type": "mpi" if mpi else "standard",
            },
        )

    def _register(self, asked: dict[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = api().post("/compute/group", asked)
        return fields

    @classmethod
    def from_api_info(cls, info: dict[str, Any]) -> MachineGroup:
        """Return the group that the server describes, as the class of its kind."""
        group = object.__new__(_class_of(info))
        group._fields = dict(info)
        return group

    @property
    def started(self) -> bool:
        """Whether the group was started, when last asked."""
        return bool(self._fields["started"])

    def refresh(self) -> MachineGroup:
        """Read the group from the server again."""
        self._fields = api().get(f"/compute/group/{self.name}")
        return self

    @property
    def num_machines(self) -> int:
        """How many machines it is to have at the most."""
        return int(self._fields["max_vms"])

    @property
    def n_vcpus(self) -> VCPUCount:
        """The vCPUs of all of them, and of one."""
        each = int(self._fields["cpu_info"]["cpu_cores_logical"])
        return VCPUCount(each * self.num_machines, each)

    @property
    def total_ram_gb(self) -> int:
        """Memory of one machine, GiB."""
        return int(self._fields["total_ram_gb"])

    @property
    def quota_usage(self) -> dict[str, float]:
        """Quota name → how much of it the group takes once it is started."""
        return dict(self._fields["quota_usage"])

    def estimate_cloud_cost(self, verbose: bool = True) -> float:
        """What the group costs at its largest, US$ per hour; printed too, where `verbose`."""
        cost = self._fields["cost_per_hour"]
        least, most = float(cost["min"]), float(cost["max"])
        if verbose:
            span = f"{most:.3f}" if least == most else f"{least:.3f} to {most:.3f}"
            say(f"Machine group {self.name}: {span} US$ per hour.")
        return most

    def can_start_resource(self) -> bool:
        """Whether the user's quotas have room for the group now."""
        quotas = users.get_quotas()
        return all(_fits(quotas.get(name), need) for name, need in self.quota_usage.items())

    def start(self, wait_for_quotas: bool = False) -> None:
        """Launch the machines. Harmless where that was done.

        Args:
            wait_for_quotas: wait until the user's quotas have room for the group.

        Raises:
            ApiError: they have none, or the group is terminated.
        """
        if wait_for_quotas and not self.started and not self.can_start_resource():
            say(f"Machine group {self.name} waits until your quotas have room for it.")
            while not self.can_start_resource():
                time.sleep(_QUOTA_POLL_S)
        self._fields = api().post("/compute/group/start", repeatable=True, machine_group_id=self.id)

    def invite(self) -> tuple[str, str]:
        """Invite a machine that is started by hand; return the server's address and a token.

        Raises:
            ApiError: the group's machines are launched by its provider.
        """
        made = api().post(f"/v1/groups/{self.name}/invitations")
        return str(made["api_url"]), str(made["token"])

    def terminate(self) -> None:
        """Terminate the group: its machines stop, and its tasks that have not ended do so too."""
        api().delete("/compute/group", machine_group_id=self.id)
        self.refresh()


class ElasticMachineGroup(MachineGroup):
    """A group that has as many machines as its queue needs, between two bounds."""

    def __init__(
        self, machine_type: str, min_machines: int = 1, max_machines: int = 2, **more: Any
    ) -> None:
        """Register a group; `start` launches its machines.

        Args:
            machine_type: one of `get_available_machine_types()`.
            min_machines: so many are always there; may be 0.
            max_machines: so many at the most.
            more: the other arguments of `MachineGroup`.

        Raises:
            InvalidInput: an argument is not usable.
        """
        if max_machines <= min_machines:
            raise InvalidInput(
                f"max_machines: {max_machines} must be more than min_machines, {min_machines}."
            )
        super().__init__(
            machine_type,
            max(1, min_machines),
            min_machines=min_machines,
            max_machines=max_machines,
            **more,
        )


class MPICluster(MachineGroup):
    """A group whose machines all work on one task together."""

    def __init__(self, machine_type: str, num_machines: int = 2, **more: Any) -> None:
        """Register a group; the arguments are those of `MachineGroup`."""
        super().__init__(machine_type, num_machines, mpi=True, **more)


def check_group(machine_type: str, num_machines: int, **named: Any) -> None:
    """Have the server refuse a machine group that it would not start now; nothing is registered.

    Args:
        machine_type: as of `MachineGroup`.
        num_machines: likewise.
        named: its other arguments.

    Raises:
        InvalidInput: an argument is not usable.
        ApiError: the group is refused.
    """
    _CheckedGroup(machine_type, num_machines, **named)


class _CheckedGroup(MachineGroup):
    """A group that is not registered, only checked."""

    def _register(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            api().post("/compute/group/check", asked, repeatable=True)
        except ApiError as error:
            if error.status not in {404, 405}:  # a server before 0.2 has no such route
                raise
        return asked


def _class_of(info: Mapping[str, Any]) -> type[MachineGroup]:
    if info["is_elastic"]:
        return ElasticMachineGroup
    return MPICluster if info["type"] == "mpi" else MachineGroup


def _fits(quota: Mapping[str, Any] | None, need: float) -> bool:
    if quota is None or quota["max_allowed"] is None:
        return True
    # A sum of prices is not exact.
    return bool((quota["in_use"] or 0) + need <= quota["max_allowed"] * (1 + 1e-9))


def _idle(given: str | float | timedelta | None) -> float | None:
    if isinstance(given, timedelta):
        given = given.total_seconds()
    return None if given is None else parse_duration(given, "max_idle_time")


def _deadline(minutes: float | None, moment: datetime | None) -> str | None:
    if moment is not None:
        if minutes is not None:
            raise InvalidInput("auto_terminate_ts: give this or auto_terminate_minutes, not both.")
        if moment.tzinfo is None:
            raise InvalidInput(f"auto_terminate_ts: {moment} has no time zone.")
        return moment.isoformat()
    if minutes is None:
        return None
    if not minutes > 0:
        raise InvalidInput(f"auto_terminate_minutes: {minutes} must be more than zero.")
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
