"""Repair of what drills have left, such as those that were killed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from simherd.errors import SimherdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simherd_drills.docker_engine import Container
    from simherd_drills.targets import Targets

    #: Returns whether there was something to repair; and the sentence for that.
    Mend = tuple[Callable[[], bool], str]


@dataclass
class Healed:
    """The results of a repair: a sentence for each."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Note an error once, and go on with the rest."""
        try:
            yield
        except (SimherdError, OSError) as error:
            if str(error) not in self.failed:
                self.failed.append(str(error))


def heal(host: Targets) -> Healed:
    """Repair what drills have left on this host."""
    healed = Healed()
    for look in (_helpers, _machines, _left_frozen, _services):
        with healed.going_on():
            for mend, sentence in look(host):
                with healed.going_on():
                    if mend():
                        healed.done.append(sentence)
    return healed


def _helpers(host: Targets) -> Iterator[Mend]:
    for helper in host.helpers():
        sentence = f"{helper.name}: a container that a drill has left was removed."
        yield partial(_removed, host, helper), sentence


def _left_frozen(host: Targets) -> Iterator[Mend]:
    for frozen in host.left_frozen():
        yield frozen.thaw, f"{frozen.name}: what its agent has left moves again."


def _removed(host: Targets, helper: Container) -> bool:
    host.engine.remove(helper)
    return True


def _machines(host: Targets) -> Iterator[Mend]:
    for machine in host.machines():
        # It must move before anything can be done inside it.
        yield machine.thaw, f"{machine.name} moves again."
        yield machine.join, f"{machine.name} has its network back."
        yield machine.empty, f"{machine.name} has its work disk back."


def _services(host: Targets) -> Iterator[Mend]:
    for service in host.services():
        yield service.mend, f"{service.name} was mended."
