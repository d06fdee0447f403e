"""The loop that claims: one attempt for each slot that is free, as long as there is room."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import redis

from executor.link.lease import new_token
from executor.observability import table
from executor.observability.instruments import inc, timed
from simherd.contract import limits

if TYPE_CHECKING:
    import threading

    from executor.agent.interruption import Interruption
    from executor.agent.prefetch import Prefetch
    from executor.agent.prefetcher import Prefetcher
    from executor.link.lease import Claimer
    from executor.machine.machine import MachineResources
    from executor.machine.slots import Slots
    from simherd.contract.queue.scripts import Claimed

log = logging.getLogger(__name__)

#: Seconds between two tries while Redis is out of reach.
_RETRY_S = 1.0
#: Seconds between two looks whether there is room on the disks by now.
_ROOM_S = 5.0
#: Attempts that may upload their outputs for each slot, beside the one that computes.
_UPLOADS_PER_SLOT = 2


class AttemptStarter(Protocol):
    """What is told of a claim."""

    def begin(self, claimed: Claimed, token: str, ahead: Prefetch | None) -> bool:
        """Start a claimed attempt; False when it cannot even be begun."""

    def number(self) -> int:
        """How many attempts there are, those included that only upload."""


class ClaimLoop:
    """Claims until the agent drains. Runs on a thread of the agent's."""

    def __init__(
        self,
        slots: Slots,
        number_of_slots: int,
        claimer: Claimer,
        stager: Prefetcher,
        machine: MachineResources,
        presence: Interruption,
        draining: threading.Event,
    ) -> None:
        """`draining`: set when nothing more is to be claimed."""
        self._slots = slots
        self._most = (1 + _UPLOADS_PER_SLOT) * number_of_slots
        self._claimer = claimer
        self._stager = stager
        self._machine = machine
        self._presence = presence
        self._draining = draining

    def run(self, agent: AttemptStarter) -> None:
        """Claim for `agent` until it drains; then somebody else may have what was fetched ahead.

        Raises:
            OSError, ValueError: something is wrong with this machine.
        """
        token = new_token()
        while self._slots.take(self._may_claim, lambda: self._is_ready(agent)):
            taken = False
            try:
                claimed, ahead = self._claim(token)
                if claimed is not None:
                    inc(table.CLAIMED)
                    taken = agent.begin(claimed, token, ahead)
                    token = new_token()
            except redis.RedisError as error:
                if not self._draining.is_set():
                    log.warning("event=claim_waits error=%s", error)
                    self._draining.wait(_RETRY_S)
            except (OSError, ValueError):
                # A connection that is closed under a read may say so in many ways.
                if not self._draining.is_set() and self._presence.may_claim:
                    raise
            finally:
                if not taken:
                    self._slots.give()
        self._stager.drop()

    def _claim(self, token: str) -> tuple[Claimed | None, Prefetch | None]:
        """The next attempt; None after a wait, when there is none or no room for one."""
        waits_for = self._machine.waits_for(has_place=self._stager.attempt is not None)
        if waits_for is not None:
            log.warning("event=no_room reason=%s", waits_for)
            self._draining.wait(_ROOM_S)
            return None, None
        with timed(table.CLAIM_SECONDS):
            claimed, ahead = self._stager.claim(self._claimer, token)
        if claimed is None:
            self._claimer.wait_for_bell(limits.BELL_WAIT_S)
        return claimed, ahead

    def _may_claim(self) -> bool:
        return not self._draining.is_set()

    def _is_ready(self, agent: AttemptStarter) -> bool:
        return agent.number() < self._most and self._presence.may_claim
