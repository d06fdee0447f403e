"""The loop that claims one attempt for each free slot while the disks have room."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import redis

from executor.link.lease import BELL_WAIT_S, Claimer, new_token
from executor.observability import table
from executor.observability.instruments import inc, timed

if TYPE_CHECKING:
    import threading

    from executor.agent.interruption import Interruption
    from executor.agent.prefetch import Prefetch
    from executor.agent.prefetcher import Prefetcher
    from executor.machine.machine import MachineResources
    from executor.machine.slots import Slots
    from simherd.contract.queue.scripts import Claimed

log = logging.getLogger(__name__)

#: Seconds between two tries while Redis is unavailable.
_RETRY_S = 1.0
#: Seconds between two checks of the room on the disks.
_ROOM_S = 5.0
#: Attempts per slot that may upload their outputs beside the one that computes.
_UPLOADS_PER_SLOT = 2


class AttemptStarter(Protocol):
    """The agent, as the claim loop needs it."""

    def begin(self, claimed: Claimed, token: str, prefetch: Prefetch | None) -> bool:
        """Start a claimed attempt; False if it cannot even be started."""

    def number(self) -> int:
        """Return how many attempts there are, those included that only upload."""


class ClaimLoop:
    """Claims until the agent drains. Runs on a thread of the agent."""

    def __init__(
        self,
        *,
        slots: Slots,
        claimer: Claimer,
        prefetcher: Prefetcher,
        machine: MachineResources,
        interruption: Interruption,
        draining: threading.Event,
    ) -> None:
        """`draining` is set when nothing more must be claimed."""
        self._slots = slots
        self._most = (1 + _UPLOADS_PER_SLOT) * slots.number
        self._claimer = claimer
        self._prefetcher = prefetcher
        self._machine = machine
        self._interruption = interruption
        self._draining = draining

    def run(self, agent: AttemptStarter) -> None:
        """Claim for `agent` until it drains; then drop what was prefetched.
        Raises OSError, ValueError: this machine has a fault."""
        token = new_token()
        while self._slots.take(
            lambda: not self._draining.is_set(),
            lambda: agent.number() < self._most and self._interruption.may_claim,
        ):
            is_started = False
            try:
                claimed, prefetch = self._claim(token)
                if claimed is not None:
                    inc(table.CLAIMED)
                    is_started = agent.begin(claimed, token, prefetch)
                    token = new_token()
            except redis.RedisError as error:
                if not self._draining.is_set():
                    log.warning("event=claim_waits error=%s", error)
                    self._draining.wait(_RETRY_S)
            except (OSError, ValueError):
                # An interrupted wait raises various errors when its connection is closed.
                if not self._draining.is_set() and self._interruption.may_claim:
                    raise
            finally:
                if not is_started:
                    self._slots.give()
        self._prefetcher.drop()

    def _claim(self, token: str) -> tuple[Claimed | None, Prefetch | None]:
        """Return the next attempt, and what was prefetched for it; None after a wait for either."""
        waits_for = self._machine.waits_for(has_place=self._prefetcher.attempt is not None)
        if waits_for is not None:
            log.warning("event=no_room reason=%s", waits_for)
            self._draining.wait(_ROOM_S)
            return None, None
        with timed(table.CLAIM_SECONDS):
            claimed, prefetch = self._prefetcher.claim(self._claimer, token)
        if claimed is None:
            self._claimer.wait_for_bell(BELL_WAIT_S)
        return claimed, prefetch
