"""Machine groups: what tasks run on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from simherd.contract import limits
from simherd.errors import InvalidInput
from simherd.http import api
from simherd.utils import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MachineGroup", "get", "get_available_machine_types", "get_by_name"]


class MachineGroup:
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
        max_idle_time: str | float | None = "3m",
        auto_terminate_minutes: float | None = None,
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
            max_idle_time: terminate the group when it had nothing to do for so long.
            auto_terminate_minutes: terminate the group so long after now, whatever it does.
            reconnect_window: for how long a machine that is silent, but not known to be gone,
                keeps its tasks.
            policy: what its containers may do beyond the strict default; the fields of
                `simherd.contract.policy.Policy`, such as `{"network": True}`.
            max_machines: with this the group is elastic: it has between `min_machines` (by
                default `num_machines`) and this many, as its queue needs them.
            min_machines: see there; may be 0.
            machines_from: which of the server's providers launches the machines: `local`,
                `docker`, `ec2`, or `external` for machines that are started by hand.
            shared: every user of the server may send tasks to the group; they take turns.
            on_demand_fallback: have machines on demand while there is no spot capacity.
            mpi: all machines work on one task together.

        Raises:
            InvalidInput: an argument is not usable.
            ApiError: the server does not offer this.
        """
        if num_machines < 1:
            raise InvalidInput(f"num_machines: {num_machines} must be at least 1.")
        self._fields = api().post(
            "/compute/group",
            {
                "machine_type": machine_type,
                "provider_id": provider,
                "num_vms": num_machines,
                "name": name,
                "spot": spot,
                "disk_size_gb": disk_size_gb,
                "max_idle_time": _idle(max_idle_time),
                "auto_terminate_ts": _deadline(auto_terminate_minutes),
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

    @classmethod
    def from_api_info(cls, info: dict[str, Any]) -> MachineGroup:
        """A group from the server's description of it."""
        group = cls.__new__(cls)
        group._fields = dict(info)
        return group

    def __repr__(self) -> str:
        return f"MachineGroup({self.name!r})"

    @property
    def id(self) -> str:
        """The group's id."""
        return str(self._fields["id"])

    @property
    def name(self) -> str:
        """The group's name."""
        return str(self._fields["name"])

    @property
    def info(self) -> dict[str, Any]:
        """What was last learned about the group: the fields of the HTTP contract."""
        return dict(self._fields)

    @property
    def started(self) -> bool:
        """Whether the group was started, when last asked."""
        return bool(self._fields["started"])

    def refresh(self) -> MachineGroup:
        """Ask for the group anew."""
        self._fields = api().get(f"/compute/group/{self.name}")
        return self

    def start(self) -> None:
        """Launch the machines. Harmless where that was done."""
        self._fields = api().post("/compute/group/start", repeatable=True, machine_group_id=self.id)

    def invite(self) -> tuple[str, str]:
        """Let a machine be started by hand; answers the server's address and a token.

        Raises:
            ApiError: the group's machines are launched by its provider.
        """
        made = api().post(f"/v1/groups/{self.name}/invitations")
        return str(made["api_url"]), str(made["token"])

    def terminate(self) -> None:
        """Terminate the group: its machines stop, and its tasks that have not ended do so too."""
        api().delete("/compute/group", machine_group_id=self.id)
        self.refresh()


def _idle(given: str | float | None) -> float | None:
    return None if given is None else parse_duration(given, "max_idle_time")


def _deadline(minutes: float | None) -> str | None:
    if minutes is None:
        return None
    if not minutes > 0:
        raise InvalidInput(f"auto_terminate_minutes: {minutes} must be more than zero.")
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


def get() -> list[MachineGroup]:
    """The groups that are not terminated."""
    return [MachineGroup.from_api_info(row) for row in api().get("/compute/groups")]


def get_by_name(name: str) -> MachineGroup:
    """The group of this name.

    Raises:
        NotFound: there is none.
    """
    if not name or "/" in name:
        raise InvalidInput(f"name: {name!r} is no machine group's name.")
    return MachineGroup.from_api_info(api().get(f"/compute/group/{name}"))


def get_available_machine_types(spot: bool | None = None) -> list[dict[str, Any]]:
    """The machine types that groups can be made of, with prices in US$ per hour."""
    found: list[dict[str, Any]] = api().get("/pricing/machine-types", spot=spot)
    return found
