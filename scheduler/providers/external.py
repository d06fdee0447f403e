"""Machines that users start by hand, with `simherd-executor join`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.providers.base import LaunchRefused, MachineState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scheduler.providers.base import MachinePlan, ProviderMachine


class ExternalProvider:
    """Observes and controls nothing: its machines join and leave by themselves."""

    revives = False
    by_hand = True

    def launch(self, plan: MachinePlan) -> dict[str, Any]:
        """See `MachineProvider`."""
        raise LaunchRefused("Machines of this group are started by hand.")

    def terminate(self, machine_id: str, handle: dict[str, Any], *, force: bool) -> bool:
        """See `MachineProvider`. The agent has been ordered to leave; its access is revoked."""
        return True

    def observe(self, machines: Mapping[str, dict[str, Any]]) -> dict[str, MachineState]:
        """See `MachineProvider`."""
        return dict.fromkeys(machines, MachineState.UNKNOWN)

    def list_machines(self) -> Iterator[ProviderMachine]:
        """See `MachineProvider`."""
        return iter(())
