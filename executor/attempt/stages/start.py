"""Reporting that the attempt was taken up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from simherd.contract.reports import ReportKind

if TYPE_CHECKING:
    from executor.attempt.context import Attempt
    from executor.config import Config


def start(attempt: Attempt) -> None:
    """Report the start, unless the attempt was prefetched: then its claim reported it."""
    if attempt.state.started_at is None:
        attempt.state.started_at = time.time()
        attempt.report(ReportKind.STARTED, executer=describe_machine(attempt.config))


def describe_machine(config: Config) -> dict[str, object]:
    """Return the machine as the report of a start describes it."""
    return {
        "uuid": config.executor_id,
        "cpu_count_logical": config.vcpus,
        "cpu_count_physical": max(1, config.vcpus // 2),
        "memory": config.memory_bytes,
        "n_mpi_hosts": config.machines if config.mpi else 1,
        "vm_type": config.machine_type,
        "vm_name": config.executor_name,
        "error_detail": None,
        # Beyond the published contract: so many tasks share the machine's price.
        "slots": config.slots,
    }
