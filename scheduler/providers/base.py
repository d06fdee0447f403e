"""The protocol of machine providers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class MachineState(Enum):
    """The state of a machine as its provider knows it."""

    RUNNING = "running"
    GONE = "gone"
    UNKNOWN = "unknown"


class LaunchRefused(Exception):
    """The provider has refused a launch; the message is a sentence for people."""


class NoCapacity(LaunchRefused):
    """The provider has no capacity at the moment, such as for spot: try again later."""


class Uncertain(LaunchRefused):
    """The provider's response was lost: the machine may have been launched or not."""


@dataclass(frozen=True)
class LaunchTicket:
    """A secret with which one new machine joins, once and within a short time."""

    #: The URL of the scheduler's API as the machine reaches it.
    api_url: str
    token: str


@dataclass(frozen=True)
class MachinePlan:
    """The machine to launch. It receives everything else when it joins."""

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
    """A machine of a provider, whether the scheduler knows it or not."""

    machine_id: str
    group_id: str
    handle: dict[str, Any]


class MachineProvider(Protocol):
    """Launches and terminates machines. Every call is idempotent by machine id and short.

    A provider with a true `one_engine` runs all simulations on one Docker engine, so that its
    machines can form MPI groups.
    """

    #: Whether a machine that is gone can be launched again with all that it held.
    revives: bool
    #: Whether somebody starts the machines by hand; then none is launched or replaced.
    by_hand: bool

    def launch(self, plan: MachinePlan) -> dict[str, Any]:
        """Start the machine unless it is started; return the handle by which it is found again.

        Raises LaunchRefused: it is not launched; NoCapacity if another try may succeed, Uncertain
        if it may have been launched all the same.
        """
        ...

    def terminate(self, machine_id: str, handle: dict[str, Any], *, force: bool) -> bool:
        """Stop the machine, at once if `force`; return whether it is gone. Call until it is."""
        ...

    def observe(self, machines: Mapping[str, dict[str, Any]]) -> dict[str, MachineState]:
        """Return the states of these machines (id → handle), by one request if possible."""
        ...

    def list_machines(self) -> Iterable[ProviderMachine]:
        """Return every machine, by the marks of its provider: for finding orphans."""
        ...
