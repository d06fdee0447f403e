"""What drills do to machines that are containers of this host's engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from simherd.contract import labels
from simherd.errors import SimherdError
from simherd_drills.errors import GOES_ON, REFUSED, DrillNotPossible
from simherd_drills.network import Network

if TYPE_CHECKING:
    from simherd_drills.docker_engine import Container, Engine

#: The file that fills a machine's work disk.
BALLAST = "drill-ballast"
#: Whole or not at all: who reads the notice acts on it. $1: the notice.
_GIVE_NOTICE = (
    'file=${SIMHERD_SPOT_NOTICES#file://}; echo "$1" >"$file.new"; mv "$file.new" "$file"'
)
_WITHDRAW = 'rm -f "${SIMHERD_SPOT_NOTICES#file://}"'
_KILL_AGENT = 'kill -KILL "$(cat "$SIMHERD_STATE_DIR/agent.pid")"'
_DISK = 'stat -c %d "$SIMHERD_STATE_DIR"'
#: $1: a folder of the engine's own disk.
_ENGINE_DISK = 'stat -c %d "$1"'
#: $1: the bytes to leave, $2: the file. Says how many it has taken.
_FILL = f"""
[ ! -e "$SIMHERD_STATE_DIR/$2" ] || {{ echo "{GOES_ON}"; exit {REFUSED}; }}
free=$(df --output=avail -B1 "$SIMHERD_STATE_DIR" | tail -n 1)
[ "$free" -gt "$1" ] || {{ echo "there are only $free bytes free already."; exit 1; }}
fallocate -l $((free - $1)) "$SIMHERD_STATE_DIR/$2"
echo $((free - $1))
"""
_EMPTY = '[ ! -e "$SIMHERD_STATE_DIR/$1" ] || { rm "$SIMHERD_STATE_DIR/$1"; echo mended; }'


class DrillTarget(Protocol):
    """Something on this host that a drill may break."""

    name: str
    #: What it belongs to, for people: a deployment, or `simherd up`.
    kind: str

    @property
    def state(self) -> str:
        """What it does now, for people."""


class DrillMachine(DrillTarget, Protocol):
    """A machine of a group. Everything raises SimherdError where it does not work, and
    DrillNotPossible where it cannot."""

    id: str

    @property
    def is_up(self) -> bool:
        """Whether there is anything to be broken."""

    def give_notice(self, in_s: float) -> None:
        """Send it a notice that it is reclaimed in so many seconds, as a cloud does."""

    def withdraw_notice(self) -> None:
        """Take the notice back."""

    def take_away(self) -> None:
        """Let it be gone at once, with all that it runs."""

    def kill_agent(self) -> None:
        """SIGKILL its agent, and nothing else."""

    def freeze(self) -> None:
        """Let it stand still, with all that it runs."""

    def thaw(self) -> bool:
        """Resume it; return whether it was suspended."""

    def cut(self, *, one_way: bool) -> None:
        """Cut it off from the network; `one_way`: what it sends still arrives."""

    def join(self) -> bool:
        """Give it its network back and return whether it had none."""

    def disk(self) -> int | None:
        """The number of the device that it works on; None where it stands still, and cannot say."""

    def engine_disk(self) -> int | None:
        """The number of the one that has its engine's images and volumes, if it has an engine."""

    def fill(self, leave: int) -> int:
        """Fill its work disk until so many bytes are left and return how many that took."""

    def empty(self) -> bool:
        """Undo that and return whether there was something to undo."""


def unpause(engine: Engine, containers: list[Container]) -> bool:
    """Unpause the paused containers; return whether there was one."""
    paused = [container for container in containers if container.state == "paused"]
    for container in paused:
        engine.unpause(container)
    return bool(paused)


class DockerMachine:
    """A `DrillMachine` that is a container which the provider `docker` has launched."""

    def __init__(self, engine: Engine, container: Container) -> None:
        self._engine = engine
        self._container = container
        self.kind = container.labels.get(labels.DEPLOYMENT, "docker")
        self.id = container.labels[labels.MACHINE]
        self.name = container.labels.get(labels.MACHINE_NAME, self.id)

    @property
    def state(self) -> str:
        return self._container.state

    @property
    def is_up(self) -> bool:
        return self._container.is_up

    def give_notice(self, in_s: float) -> None:
        self._inside(_GIVE_NOTICE, json.dumps({"in_s": in_s}))

    def withdraw_notice(self) -> None:
        self._inside(_WITHDRAW)

    def take_away(self) -> None:
        """See `DrillMachine`. The scheduler removes what is left, as it does after any reclaim."""
        for container in self._everything():
            self._engine.kill(container)

    def kill_agent(self) -> None:
        self._inside(_KILL_AGENT)

    def freeze(self) -> None:
        found = self._everything()
        if any(container.state == "paused" for container in found):
            raise DrillNotPossible(f"{self.name}: {GOES_ON}")
        for container in found:
            if container.state == "running":
                self._engine.pause(container)

    def thaw(self) -> bool:
        return unpause(self._engine, self._everything())

    def cut(self, *, one_way: bool) -> None:
        if self._container.shares_network:
            raise DrillNotPossible(
                f"{self.name} shares another's network and cannot be cut off alone. Give "
                "machines their own network: SIMHERD_DOCKER_NETWORK (docs/operating.md)."
            )
        self._network().drop(one_way=one_way)

    def join(self) -> bool:
        now = self._now()
        if now is None or now.state != "running" or now.shares_network:
            # What it had has gone with it.
            return False
        return self._network().mend()

    def disk(self) -> int | None:
        if self.state == "paused":
            return None
        try:
            return int(self._inside(_DISK))
        except SimherdError:
            now = self._now()
            if now is None or now.state != "running":
                # Another drill has come to it since it was looked for.
                return None
            raise

    def engine_disk(self) -> int | None:
        return int(self._inside(_ENGINE_DISK, self._engine.folder))

    def fill(self, leave: int) -> int:
        return int(self._inside(_FILL, str(leave), BALLAST))

    def empty(self) -> bool:
        now = self._now()
        return now is not None and now.state == "running" and bool(self._inside(_EMPTY, BALLAST))

    def _inside(self, script: str, *arguments: str) -> str:
        return self._engine.inside(self._container, script, *arguments)

    def _network(self) -> Network:
        return Network(self._engine, self._container, self._container.image)

    def _now(self) -> Container | None:
        """Its container as it is now, if it is still there."""
        found = self._engine.containers(f"{labels.MACHINE}={self.id}")
        return found[0] if found else None

    def _everything(self) -> list[Container]:
        """Its container, and those of its simulations; first the agent's, which must not learn
        what becomes of the others."""
        marks = (labels.MACHINE, labels.HOLDER)
        return [c for mark in marks for c in self._engine.containers(f"{mark}={self.id}")]
