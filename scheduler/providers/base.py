"""What the scheduler asks of whatever runs machines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from simherd.contract.policy import Policy


class MachineState(Enum):
    """What a provider knows of a machine."""

    RUNNING = "running"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class MachinePlan:
    """What a machine is to be: ids, the group it joins, and what its tasks may use."""

    machine_id: str
    group_id: str
    name: str
    machine_type: str
    spot: bool
    vcpus: int
    memory_bytes: int
    disk_size_gb: int
    #: How long the scheduler leaves it its attempts while it is silent, seconds.
    reconnect_s: float
    policy: Policy


class MachineProvider(Protocol):
    """Launches and terminates machines. Every call is idempotent by machine id and short."""

    def launch(self, plan: MachinePlan) -> dict[str, Any]:
        """Start the machine, or find it started; answers what is needed to find it again."""
        ...

    def terminate(self, machine_id: str, handle: dict[str, Any], *, force: bool) -> bool:
        """Stop the machine, at once if `force`; answers whether it is gone. Call until it is."""
        ...

    def describe(self, machine_id: str, handle: dict[str, Any]) -> MachineState:
        """Whether the machine is there."""
        ...
