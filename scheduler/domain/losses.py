"""The attempts that are lost: those whose machine is gone or silent, and the brake for mass losses.

A machine that is gone loses its attempts at once. Silence alone is weaker evidence: it counts only
after a while, outside a grace period, and not where much of the group is silent, since the fault is
then probably the scheduler's. docs/the-sweep.md lists every reason with its test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from simherd.contract import limits
from simherd.contract.cause import Cause

if TYPE_CHECKING:
    from collections.abc import Collection

#: Share of a group's leases which, overdue together, makes the sweep hold: it is probably us.
MASS_LOSS_SHARE = 0.5
#: Leases below which the brake above does not apply: one machine of two may well be gone.
MASS_LOSS_MINIMUM = 8


@dataclass(frozen=True)
class GracePeriod:
    """A time in which silence proves nothing: until when (seconds since the epoch), and why."""

    until: float
    why: str


#: For a look at a group between two sweeps, which does not know whether a grace period holds.
NOT_A_SWEEP = GracePeriod(math.inf, "only a sweep knows whether silence proves anything")


def grace_period(
    now: float, grace_s: float, *, scheduler_started_at: float, redis_started_at: float
) -> GracePeriod | None:
    """Return the grace period that holds now, if one does; times in seconds since the epoch.

    A scheduler that has just started has heard nobody yet, and a Redis that has just started, or
    has lost its data, has forgotten whom it heard.
    """
    until, why = max(
        (scheduler_started_at + grace_s, "the scheduler has just started"),
        (redis_started_at + grace_s, "Redis has just started, or has lost its data"),
    )
    return GracePeriod(until, why) if now < until else None


@dataclass(frozen=True)
class MachineEvidence:
    """What SQL, Redis and the provider know about a machine that holds an attempt."""

    #: When its last heartbeat came, seconds since the epoch.
    seen_at: float
    #: The scheduler has terminated it, or does not know it.
    is_down: bool = False
    #: The scheduler has not terminated it, and its provider says that it does not exist.
    is_missing: bool = False
    is_spot: bool = False
    #: Its reclaim was announced, or recorded when it was found gone.
    is_reclaimed: bool = False

    @property
    def is_gone(self) -> bool:
        """Whether it certainly works no more."""
        return self.is_down or self.is_missing

    @property
    def loss_cause(self) -> Cause:
        """Why an attempt on it ends.

        A spot machine that the scheduler terminated itself, for example after long silence, was not
        reclaimed. Its loss must count towards those for which a task is held, since the task may be
        the reason.
        """
        taken = self.is_spot and self.is_missing and not self.is_down
        return Cause.SPOT_RECLAIMED if taken or self.is_reclaimed else Cause.MACHINE_LOST


#: A machine of which the scheduler has no row: it was terminated long ago, or never existed.
UNKNOWN_MACHINE = MachineEvidence(seen_at=0.0, is_down=True)


@dataclass(frozen=True)
class Suspect:
    """An attempt whose machine may be lost."""

    attempt: str
    machine_id: str
    machine: MachineEvidence
    #: Its machine sends heartbeats, and does not name the attempt in them.
    is_left_out: bool = False

    @property
    def cause(self) -> Cause:
        """Why the attempt ends if it is lost."""
        if self.is_left_out and not self.machine.is_gone:
            return Cause.AGENT_STOPPED
        return self.machine.loss_cause


class Losses(NamedTuple):
    """The attempts to end, those of machines that are gone first, and those the brake holds."""

    lost: list[Suspect]
    held: list[Suspect]


def find_losses(
    suspects: Collection[Suspect],
    total: int,
    *,
    now: float,
    silent_s: float,
    grace: GracePeriod | None,
) -> Losses:
    """Decide which attempts of a group are lost.

    Args:
        total: all attempts, or members of MPI groups, from which the suspects were chosen.
        now: seconds since the epoch.
        silent_s: seconds of silence after which a machine that may still exist is lost.
        grace: the grace period that holds now.
    """
    gone = [s for s in suspects if s.machine.is_gone]
    silent = [
        s
        for s in suspects
        if grace is None
        and not s.machine.is_gone
        and (s.is_left_out or now - s.machine.seen_at > silent_s)
    ]
    if is_mass_loss(len(silent), total):
        return Losses(gone, silent)
    return Losses(gone + silent, [])


def is_left_out(seen_at: float, lease_ended_at: float | None, now: float) -> bool:
    """Whether a machine lives and does not know an attempt, as after a crash while it claimed.

    `seen_at`: when it sent its last heartbeat, seconds since the epoch; 0: never. `lease_ended_at`:
    when the attempt's lease ran out, or will; None: it has no lease. `now`: seconds since the
    epoch.
    """
    if lease_ended_at is None:
        return now - seen_at < limits.LEASE_S
    return seen_at - lease_ended_at > limits.LEASE_S


def is_mass_loss(silent: int, total: int) -> bool:
    """Whether so many are silent at once that the fault is probably the scheduler's."""
    return silent >= MASS_LOSS_MINIMUM and silent > MASS_LOSS_SHARE * total


def is_common_failure(others: int, healthy_others: int) -> bool:
    """Whether tasks fail on every other machine of the group, too: no machine is to blame."""
    return others > 0 and healthy_others == 0
