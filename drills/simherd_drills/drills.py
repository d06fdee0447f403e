"""The drills: what each does, what is to be seen of it, and how it is begun and ended.

One that lasts is a context: whatever ends it, also Ctrl-C or an error, what was done is undone.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simherd.contract.machines import SUSPECT, SUSPECT_S
from simherd_drills.errors import DrillNotPossible
from simherd_drills.interrupts import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simherd_drills.machines import DrillMachine


@dataclass(frozen=True)
class Drill:
    """What an operator sees of a drill."""

    #: What becomes of the target; the sentence's beginning is its name.
    does: str
    #: What is to be seen, in one sentence.
    see: str


_SILENT = f"{SUSPECT} after {SUSPECT_S:.0f} s; it keeps its task and goes on"

DRILLS = {
    "reclaim": Drill(
        "gets a notice, and is reclaimed when its time is over",
        "it takes nothing more and hands its task back; a task that wants resubmission is queued "
        "again at once, another machine takes its place",
    ),
    "partition": Drill(
        "is cut off from the network",
        f"{_SILENT} when it is back within the group's reconnect window; later it runs elsewhere",
    ),
    "freeze": Drill(
        "stands still with all that it runs",
        f"{_SILENT} when it moves within the group's reconnect window; later it runs elsewhere",
    ),
    "kill-agent": Drill(
        "loses its agent, and nothing else",
        "its simulation goes on, another agent takes it over within seconds: one attempt, "
        "no gap in its log",
    ),
    "fill-disk": Drill(
        "has its work disk filled",
        "it takes nothing more and says why (NOTE in `simherd resources info`); what runs goes on "
        "within what is left",
    ),
    "restart-redis": Drill(
        "is restarted",
        "tasks that run go on; for a moment nothing is queued; leases are presented again and the "
        "queue is filled from SQL, with no attempt lost",
    ),
    "slow-storage": Drill(
        "is slowed down",
        "downloads and uploads take longer; heartbeats, claims and statuses do not",
    ),
    "break-storage": Drill(
        "can be reached no more",
        "tasks that compute go on; what is to be uploaded is kept and sent again until it is "
        "stored, for about two minutes",
    ),
}


@contextmanager
def held(begin: Callable[[], object], heal: Callable[[], object]) -> Iterator[None]:
    """Something is broken meanwhile. Healed also where only a part of `begin` was done. Not where
    it was refused: what is broken there is another drill's."""
    refused = False
    try:
        try:
            begin()
        except DrillNotPossible:
            refused = True
            raise
        yield
    finally:
        if not refused:
            with undisturbed():
                heal()


def nothing() -> None:
    """What heals by itself."""


@contextmanager
def reclaimed(machine: DrillMachine, notice_s: float) -> Iterator[None]:
    """A notice is given, and the machine goes at the end; it stays where that comes too early.
    Without a notice it goes at once."""
    if notice_s:
        try:
            machine.give_notice(notice_s)
            yield
        except BaseException:
            with undisturbed():
                machine.withdraw_notice()
            raise
        machine.take_away()
    else:
        machine.take_away()
        yield
