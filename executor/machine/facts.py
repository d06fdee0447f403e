"""What a machine publishes with its heartbeat: its resources, their use, why it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from executor.config import Config
    from executor.containers.base import ContainerBackend
    from executor.machine.volumes import Disk


class MachineInfo:
    """Gathers the facts of a machine; those that do not change are read once."""

    def __init__(self, config: Config, backend: ContainerBackend, disk: Disk) -> None:
        self._work = str(config.state_dir)
        self._fixed: dict[str, Any] = {
            "backend": backend.name,
            "disk_limit": disk.name,
            "slots": config.slots,
            "gpus": backend.gpus(),
        }
        # Each call returns the use since the one before, the first one nothing.
        psutil.cpu_percent()

    def gather(self, *, draining: bool, waits_for: str | None) -> dict[str, Any]:
        """Return the facts now; `waits_for`: why nothing is claimed, None when something may be."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(self._work)
        return {
            **self._fixed,
            "draining": draining,
            "waits_for": waits_for,
            "cpu_percent": psutil.cpu_percent(),
            "memory_used_bytes": memory.total - memory.available,
            "disk_free_bytes": disk.free,
        }
