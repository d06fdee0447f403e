"""Claiming attempts and keeping their leases."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from executor.link.connection import connect
from simherd.contract import limits
from simherd.contract.queue import scripts
from simherd.contract.queue.keys import PRIORITY_BAND, GroupKeys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from executor.link.connection import Address
    from simherd.contract.queue.scripts import Claimed, Renewal


@dataclass(frozen=True)
class HeldLease:
    """One attempt as a heartbeat presents it."""

    attempt: str
    token: str
    last_event: int
    ended: bool


class Claimer:
    """One slot's end of the queue. Not to be shared between threads."""

    def __init__(self, where: str | Address, group: str, executor: str) -> None:
        self._keys = GroupKeys(group)
        self._executor = executor
        # A repeated claim carries the same token and gets the same answer.
        self._client = connect(where, blocking_s=limits.BELL_WAIT_S)
        self._claim = self._client.register_script(scripts.source("claim"))

    def claim(self, token: str, staged: str = "") -> Claimed | None:
        """The first waiting attempt, leased to this executor; None when nothing waits.

        `staged`: the attempt that this machine has fetched ahead, which may come first.
        """
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
                limits.MAX_OVERTAKEN,
            ],
        )
        return scripts.claim_reply(reply)

    def wait_for_bell(self, wait_s: float) -> bool:
        """Sleep until an attempt arrives, or `wait_s` seconds; answers whether the bell rang.

        A ring that is lost with the connection costs nothing but the rest of the wait.
        """
        return self._client.blpop([self._keys.bell], timeout=wait_s) is not None

    def interrupt(self) -> None:
        """Cut a wait for the bell short; may be called from another thread."""
        self._client.connection_pool.disconnect()

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()


def new_token() -> str:
    """A lease's secret, which is also its claim's request id."""
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
        """Tell that the executor lives, extend its leases, learn what was recorded."""
        keys = self._keys
        args: list[str | int] = [keys.lease_prefix, self._executor, int(limits.LEASE_S * 1000)]
        for one in held:
            args += [one.attempt, one.token, one.last_event, "1" if one.ended else "0"]
        reply = self._renew(keys=[keys.leases, keys.machines, keys.recorded, keys.specs], args=args)
        return scripts.renew_reply(reply)

    def stage(self, staged: str = "") -> Literal["kept"] | Claimed | None:
        """Choose a waiting attempt to fetch ahead, or keep the one that is `staged`.

        None: there is none. Without `kept` the one that was staged waits no more.
        """
        keys = self._keys
        reply = self._stage(
            keys=[keys.queue, keys.specs, keys.staged],
            args=[self._executor, staged, int(1000 * limits.STAGED_S), limits.STAGE_WINDOW],
        )
        return scripts.stage_reply(reply)

    def unstage(self, staged: str) -> None:
        """Another may fetch it."""
        self._client.hdel(self._keys.staged, staged)

    def publish_facts(self, facts: dict[str, Any]) -> None:
        """Publish what the scheduler shows of this machine."""
        self._client.hset(self._keys.facts, self._executor, json.dumps(facts))

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()
