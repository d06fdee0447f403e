"""Ending every machine of a deployment, when all of it is taken down."""

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
    """End every machine that is there; answers the ids of those that are left.

    SQL is not told: the machines' groups stay up. Run while no worker runs, which
    would launch others, and while the recorder does, which hears of what the agents stopped.
    """
    asked, started = list(providers), time.monotonic()
    while True:
        there = [(provider, found) for provider in asked for found in provider.list_machines()]
        waited = time.monotonic() - started
        if not there or waited > _GRACE_S + _FORCED_S:
            return [found.machine_id for _, found in there]
        for provider, found in there:
            if provider.terminate(found.machine_id, found.handle, force=waited > _GRACE_S):
                log.info("event=machine_ended machine=%s", found.machine_id)
        time.sleep(_TICK_S)
