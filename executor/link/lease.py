"""Claiming attempts and renewing their leases."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from executor.link.connection import Address, connect
from simherd.contract import limits
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import PRIORITY_BAND, GroupKeys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simherd.contract.queue.scripts import Claimed, Renewal

#: Seconds an idle executor waits on the bell before it looks at the queue all the same.
BELL_WAIT_S = 20
#: How often a waiting attempt may be overtaken by one whose inputs a machine has fetched ahead.
MAX_OVERTAKEN = 4
#: How many of the first in the queue may be fetched ahead.
STAGE_WINDOW = 64
#: Seconds for which an attempt is marked as being fetched ahead; renewed by each heartbeat.
STAGED_S = 30.0


@dataclass(frozen=True)
class HeldLease:
    """An attempt and its lease, as a heartbeat presents them."""

    attempt: str
    token: str
    last_event: int
    ended: bool


class Claimer:
    """The queue's client of one slot. Not to be shared between threads."""

    def __init__(self, where: str | Address, group: str, executor: str) -> None:
        self._keys = GroupKeys(group)
        self._executor = executor
        # A repeated claim carries the same token and gets the same reply.
        self._client = connect(where, blocking_s=BELL_WAIT_S)
        self._claim = self._client.register_script(scripts.source("claim"))

    def claim(self, token: str, staged: str = "") -> Claimed | None:
        """Return the first waiting attempt, leased to this executor; None when nothing waits.
        `staged`: the attempt whose inputs this machine has prefetched, which may come first."""
        keys = self._keys
        reply = self._claim(
            keys=list(keys.of_claim()),
            args=[
                keys.lease_prefix,
                self._executor,
                token,
                int(limits.LEASE_S * 1000),
                PRIORITY_BAND,
                staged,
                MAX_OVERTAKEN,
            ],
        )
        return scripts.claim_reply(reply)

    def wait_for_bell(self, wait_s: float) -> bool:
        """Wait `wait_s` seconds at most for an attempt to arrive; return whether the bell rang.
        When a ring is lost with the connection, the wait lasts its whole time."""
        return self._client.blpop([self._keys.bell], timeout=wait_s) is not None

    def interrupt(self) -> None:
        """End a wait for the bell; may be called from another thread."""
        self._client.connection_pool.disconnect()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def new_token() -> str:
    """Return a new secret of a lease, which is also the request id of its claim."""
    return secrets.token_hex(16)


class LeaseKeeper:
    """Renews all leases of an executor in one call. Not to be shared between threads."""

    def __init__(self, where: str | Address, group: str, executor: str) -> None:
        self._keys = GroupKeys(group)
        self._executor = executor
        self._client = connect(where)
        self._renew = self._client.register_script(scripts.source("renew"))
        self._stage = self._client.register_script(scripts.source("stage"))

    def beat(self, held: Iterable[HeldLease]) -> list[Renewal]:
        """Send a heartbeat that extends the leases; return what became of each."""
        keys = self._keys
        args: list[str | int] = [keys.lease_prefix, self._executor, int(limits.LEASE_S * 1000)]
        for lease in held:
            args += [lease.attempt, lease.token, lease.last_event, "1" if lease.ended else "0"]
        reply = self._renew(keys=[keys.leases, keys.machines, keys.recorded, keys.specs], args=args)
        return scripts.renew_reply(reply)

    def stage(self, staged: str = "") -> Literal["kept"] | Claimed | None:
        """Choose a waiting attempt to prefetch, or keep the one that is `staged`. Return None when
        none waits. Unless `kept` is returned, the staged one no longer waits."""
        keys = self._keys
        reply = self._stage(
            keys=[keys.queue, keys.specs, keys.staged],
            args=[self._executor, staged, int(1000 * STAGED_S), STAGE_WINDOW],
        )
        return scripts.stage_reply(reply)

    def unstage(self, staged: str) -> None:
        """Let another machine prefetch the attempt."""
        self._client.hdel(self._keys.staged, staged)

    def publish_facts(self, facts: dict[str, Any]) -> None:
        """Publish what the scheduler shows of this machine."""
        self._client.hset(self._keys.facts, self._executor, json.dumps(facts))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
