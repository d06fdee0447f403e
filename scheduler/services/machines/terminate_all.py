"""Terminate every machine of a deployment that is taken down."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scheduler.providers.base import MachineProvider

log = logging.getLogger(__name__)

#: Seconds in which agents may stop what runs and report it; then they are ended at once.
_GRACE_S = 60.0
#: Seconds more in which all of them must be gone.
_FORCED_S = 60.0
_TICK_S = 0.5


def end_machines(providers: Iterable[MachineProvider]) -> list[str]:
    """Terminate every machine; return the ids of those that are left.

    SQL is not changed: the machines' groups stay up. Run it while no worker runs, which would
    launch others, and while the recorder runs, which records what the agents stopped.
    """
    all_providers, started = list(providers), time.monotonic()
    while True:
        left = [(p, machine) for p in all_providers for machine in p.list_machines()]
        waited = time.monotonic() - started
        if not left or waited > _GRACE_S + _FORCED_S:
            return [machine.machine_id for _, machine in left]
        for provider, machine in left:
            if provider.terminate(machine.machine_id, machine.handle, force=waited > _GRACE_S):
                log.info("event=machine_ended machine=%s", machine.machine_id)
        time.sleep(_TICK_S)
