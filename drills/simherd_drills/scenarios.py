"""The scenarios of the suite: what is broken, and what must be seen of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from simherd.contract.lifecycle import Status
from simherd.contract.machines import SUSPECT, SUSPECT_S
from simherd.errors import SimherdError
from simherd_drills.disks import fill
from simherd_drills.drills import held, nothing, reclaimed
from simherd_drills.fleet import Fleet, until
from simherd_drills.services import BREAKS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from simherd.task import Task
    from simherd_drills.machines import DrillMachine
    from simherd_drills.targets import Targets

#: Bytes left by `fill-disk`, and the rate of `slow-storage`.
_LEAVE, _RATE = 100 * 1000**2, "1mbit"
#: Seconds that a task works for beyond a drill's time; or the share of that after which it has
#: outputs to be stored.
_BEYOND_S, _SHARE = 2.0, 0.5
#: And at the least: the storage must be broken before there is anything to be stored.
_LEAST_S = 6.0
#: Seconds of notice with less than which a machine has no time to hand its task back.
_LEAST_NOTICE_S = 5.0
#: Seconds by which something must be seen, beyond the time that it takes.
_SEEN_S = 1.5

#: Checks what must be seen while something is broken: returns a sentence or raises SimherdError.
Look = Callable[["Fleet", "Task", "DrillMachine"], str]


def _no_check(_fleet: Fleet, _task: Task, _machine: DrillMachine) -> str:
    return ""


@dataclass(frozen=True)
class Scenario:
    """One drill of the suite."""

    #: The drill's command, with its options.
    drill: str
    #: What is done to the machine that holds the task, or to a service.
    done: str
    broken: Callable[[Targets, DrillMachine], AbstractContextManager[None]]
    #: Seconds that the task works for, and how many attempts it takes.
    work_s: float
    attempts: int = 1
    #: Seconds that it lasts, where it cannot be as short as the others.
    hold_s: float = 0.0
    #: What must be seen meanwhile, and what looks for it.
    meanwhile: str = ""
    look: Look = _no_check

    @property
    def promised(self) -> str:
        """What must be seen."""
        attempts = "one attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        said = f"success once, {attempts}, all files, nothing left"
        return f"{self.meanwhile}; {said}" if self.meanwhile else said


def scenarios(seconds: float, *, even_shared: bool) -> list[Scenario]:
    """All of them, each of which breaks something for so long; `even_shared`: see `fill`."""
    return [*_on_machines(seconds, even_shared), *_on_redis(seconds), *_on_storage(seconds)]


def _on_machines(seconds: float, even_shared: bool) -> list[Scenario]:
    for_, work_s = f"for {seconds:.0f} s", seconds + _BEYOND_S
    silent = partial(Scenario, done=for_, work_s=work_s)
    if seconds > SUSPECT_S + _SEEN_S:
        silent = partial(silent, meanwhile=SUSPECT, look=_is_suspect)
    notice_s = max(seconds, _LEAST_NOTICE_S)
    return [
        Scenario(
            "reclaim",
            f"notice of {notice_s:.0f} s",
            lambda _, m: reclaimed(m, notice_s),
            notice_s + _BEYOND_S,
            attempts=2,
            hold_s=notice_s,
        ),
        Scenario("reclaim --notice 0", "at once", lambda _, m: reclaimed(m, 0), work_s, attempts=2),
        silent("partition", broken=partial(_cut, one_way=False)),
        silent("partition --one-way", broken=partial(_cut, one_way=True)),
        silent("freeze", broken=lambda _, m: held(m.freeze, m.thaw)),
        Scenario("kill-agent", "SIGKILL", lambda _, m: held(m.kill_agent, nothing), work_s),
        Scenario(
            "fill-disk",
            f"{for_}, 100 MB left",
            partial(_filled, even_shared=even_shared),
            work_s,
            meanwhile="the machine says that it has no room",
            look=_has_no_room,
        ),
    ]


def _on_redis(seconds: float) -> list[Scenario]:
    work_s = seconds + _BEYOND_S
    return [
        Scenario("restart-redis", "SIGTERM", partial(_without_redis, kill=False), work_s),
        Scenario("restart-redis --kill", "SIGKILL", partial(_without_redis, kill=True), work_s),
    ]


def _on_storage(seconds: float) -> list[Scenario]:
    for_, work_s = f"for {seconds:.0f} s", max(seconds * _SHARE, _LEAST_S)
    return [
        Scenario("slow-storage", f"{for_}, {_RATE}", _slow_storage, work_s, look=_stores),
        *(
            Scenario(
                f"break-storage --how {how}",
                for_,
                partial(_broken_storage, how=how),
                work_s,
                meanwhile="no end before the outputs are stored",
                look=_is_held_up,
            )
            for how in BREAKS
        ),
    ]


def _cut(_host: Targets, machine: DrillMachine, *, one_way: bool) -> AbstractContextManager[None]:
    return held(partial(machine.cut, one_way=one_way), machine.join)


def _filled(
    host: Targets, machine: DrillMachine, *, even_shared: bool
) -> AbstractContextManager[None]:
    return held(partial(fill, host, machine, _LEAVE, even_shared=even_shared), machine.empty)


def _without_redis(
    host: Targets, _machine: DrillMachine, *, kill: bool
) -> AbstractContextManager[None]:
    def restart() -> None:
        for redis in host.redis((), several=True):
            redis.restart(kill=kill)

    return held(restart, nothing)


def _slow_storage(host: Targets, _machine: DrillMachine) -> AbstractContextManager[None]:
    (storage,) = host.storage(())
    return held(partial(storage.slow, _RATE), storage.mend)


def _broken_storage(
    host: Targets, _machine: DrillMachine, *, how: str
) -> AbstractContextManager[None]:
    (storage,) = host.storage(())
    return held(partial(storage.break_, how), storage.mend)


def _is_suspect(fleet: Fleet, _task: Task, machine: DrillMachine) -> str:
    until(
        lambda: fleet.machine_status(machine)["status"] == SUSPECT, f"{machine.name} to be suspect"
    )
    return SUSPECT


def _has_no_room(fleet: Fleet, _task: Task, machine: DrillMachine) -> str:
    def word() -> str | None:
        return (fleet.machine_status(machine)["facts"] or {}).get("waits_for")

    return until(word, f"{machine.name} to say that it has no room")


def _stores(_fleet: Fleet, task: Task, _machine: DrillMachine) -> str:
    """Wait until the commands have ended, and some more."""
    computing = Status.COMPUTATION_STARTED
    until(lambda: task.get_info().status != computing, f"the commands of task {task.id} to end")
    time.sleep(_SEEN_S)
    return f"{task.get_info()['status_alias']} meanwhile"


def _is_held_up(fleet: Fleet, task: Task, machine: DrillMachine) -> str:
    said = _stores(fleet, task, machine)
    if task.get_info().is_terminal:
        raise SimherdError(f"task {task.id} was {said}, while the storage was broken.")
    return said
