"""What the scheduler asks of whatever runs machines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class MachineState(Enum):
    """What a provider knows of a machine."""

    RUNNING = "running"
    GONE = "gone"
    UNKNOWN = "unknown"


class LaunchRefused(Exception):
    """The provider does not launch the machine now; the message is a sentence for people."""


class NoCapacity(LaunchRefused):
    """There is no such machine to be had just now, such as for spot: try again later."""


class Uncertain(LaunchRefused):
    """The provider's answer was lost: the machine may be there, or not."""


@dataclass(frozen=True)
class LaunchTicket:
    """What lets one new machine join, once and for a short time: a secret."""

    #: Where the scheduler's API can be reached from the machine.
    api_url: str
    token: str


@dataclass(frozen=True)
class MachinePlan:
    """What a machine is to be. All else it learns when it joins."""

    machine_id: str
    group_id: str
    name: str
    machine_type: str
    zone: str
    spot: bool
    vcpus: int
    memory_bytes: int
    disk_size_gb: int
    ticket: LaunchTicket


@dataclass(frozen=True)
class ProviderMachine:
    """A machine that a provider has, whether the scheduler knows of it or not."""

    machine_id: str
    group_id: str
    handle: dict[str, Any]


class MachineProvider(Protocol):
    """Launches and terminates machines. Every call is idempotent by machine id and short.

    One that has a true `one_engine` runs all simulations on one Docker engine, so that machines
    can work together.
    """

    #: Whether a machine that is gone can be launched again with all that it held.
    revives: bool
    #: Whether somebody starts the machines by hand; then none is launched or replaced.
    by_hand: bool

    def launch(self, plan: MachinePlan) -> dict[str, Any]:
        """Start the machine, or find it started; answers what is needed to find it again.

        Raises:
            LaunchRefused: not now, or not at all; NoCapacity where it is worth another try,
                Uncertain where it may have been launched all the same.
        """
        ...

    def terminate(self, machine_id: str, handle: dict[str, Any], *, force: bool) -> bool:
        """Stop the machine, at once if `force`; answers whether it is gone. Call until it is."""
        ...

    def observe(self, machines: Mapping[str, dict[str, Any]]) -> dict[str, MachineState]:
        """Which of these (machine id → handle) are there: one question for all of them."""
        ...

    def list_machines(self) -> Iterable[ProviderMachine]:
        """Every machine that is there, by the provider's own marks: for finding orphans."""
        ...
