"""Machine groups: what tasks run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simherd.errors import InvalidInput
from simherd.http import api
from simherd.machine_group import ElasticMachineGroup, MachineGroup, MPICluster

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ElasticMachineGroup",
    "MPICluster",
    "MachineGroup",
    "estimate_machine_cost",
    "get",
    "get_available_machine_types",
    "get_by_name",
    "get_default",
]


def get() -> list[MachineGroup]:
    """The groups that are not terminated."""
    return [MachineGroup.from_api_info(row) for row in api().get("/compute/groups")]


def get_by_name(name: str) -> MachineGroup:
    """The group of this name.

    Raises:
        NotFound: there is none.
    """
    if not name or "/" in name:
        raise InvalidInput(f"name: {name!r} is not a machine group's name.")
    return MachineGroup.from_api_info(api().get(f"/compute/group/{name}"))


def get_default() -> MachineGroup:
    """The group that tasks go to that name none: the server's default where the user may use it,
    else the user's only group that is started.

    Raises:
        NotFound: there is neither.
    """
    return MachineGroup.from_api_info(api().get("/v1/default-group"))


def look_up(on: MachineGroup | str | None) -> MachineGroup:
    """The group that is meant by itself, by its name, or by None, the default. Raises NotFound."""
    if on is None:
        return get_default()
    return get_by_name(on) if isinstance(on, str) else on


def get_available_machine_types(
    provider: str | None = "GCP",
    machine_families: Sequence[str] | None = None,
    machine_configs: Sequence[str] | None = None,
    vcpus_range: tuple[int, int] | None = None,
    memory_range: tuple[int, int] | None = None,
    price_range: tuple[float, float] | None = None,
    spot: bool | None = None,
    gpus_range: tuple[int, int] | None = None,
    gpu_names: Sequence[str] | None = None,
    zones: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """The machine types that groups can be made of, with prices in US$ per hour.

    Args:
        provider: the wire's provider name; None: any that the user may start machines with.
        machine_families: only these, such as `c2`.
        machine_configs: only these, such as `standard` or `highcpu`.
        vcpus_range: the least and the most vCPUs.
        memory_range: the least and the most memory, GiB.
        price_range: the least and the most US$ per hour.
        spot: only spot machines, or only others.
        gpus_range: the least and the most GPUs.
        gpu_names: only with these GPUs.
        zones: only in these zones.

    Raises:
        ApiError: there is no such provider, or a range is not usable.
    """
    found: list[dict[str, Any]] = api().get(
        "/compute/machine_types",
        provider_id=provider,
        machine_families=machine_families,
        machine_configs=machine_configs,
        vcpus_range=vcpus_range,
        memory_range=memory_range,
        price_range=price_range,
        spot=spot,
        gpus_range=gpus_range,
        gpu_names=gpu_names,
        zones=zones,
    )
    return found


def estimate_machine_cost(machine_type: str, spot: bool = False, zone: str | None = None) -> float:
    """What one machine costs, US$ per hour.

    Raises:
        NotFound: there is no such machine type.
    """
    prices = api().get("/compute/price", machine_type=machine_type, zone=zone)
    return float(prices["preemptible_price" if spot else "on_demand_price"])
