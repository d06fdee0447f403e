"""Filling the disk that a machine works on, and who else would be harmed by that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simherd_drills.errors import DrillNotPossible

if TYPE_CHECKING:
    from simherd_drills.machines import DrillMachine
    from simherd_drills.targets import Targets


def fill(host: Targets, machine: DrillMachine, leave: int, *, even_shared: bool) -> int:
    """Fill it until so many bytes are left and return how many that took. Raises DrillNotPossible:
    others use it, and `even_shared` is not set; or another drill filled it."""
    if not even_shared and (whose := _shared_with(host, machine)):
        raise DrillNotPossible(
            f"{machine.name} works on the disk of {whose}: a full one harms more than this "
            "machine. Say --even-shared if that is what you want."
        )
    return machine.fill(leave)


def _shared_with(host: Targets, machine: DrillMachine) -> str:
    """What else uses its disk; empty where nothing does."""
    disk = machine.disk()
    # A folder that is mounted in a container has the number there that it has on the host.
    if disk == Path("/").stat().st_dev:
        return "this host's own system"
    if disk == machine.engine_disk():
        return "the engine's images and volumes"
    others = (other for other in host.machines() if other.id != machine.id)
    return next((whose for other in others if (whose := _works_there(other, disk))), "")


def _works_there(other: DrillMachine, disk: int | None) -> str:
    theirs = other.disk()
    if theirs is None:
        return f"{other.name}, perhaps, which stands still and cannot be asked"
    return f"{other.name}, too" if theirs == disk else ""
