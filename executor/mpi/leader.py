"""An attempt's machines, seen from the one that leads: it runs the commands, and keeps an eye on
the others. mpirun's way to them is a note in a folder, a message, and a container there."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import redis

from executor.attempt.context import StageFailed
from executor.containers.base import PEERS_DIR, ContainerError, Peers
from executor.mpi.rsh_folder import RshFolder
from simherd.contract import limits
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from simherd.contract.join import network_name
from simherd.runtime.logs import about, in_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.attempt.context import Attempt
    from executor.containers.base import ContainerSpec
    from executor.link.mpi import GangLink
    from executor.mpi.rsh_folder import RshRequest

log = logging.getLogger(__name__)

#: Seconds between two looks into the folder of notes while a command may leave some there.
_NOTES_S = 0.1
#: Seconds between two looks at how the others are.
_LOOK_S = 2.0
#: Seconds after a command has failed in which every machine must have said how its part ended.
_SETTLE_S = limits.LEASE_S + 5
#: Lines that may run on each machine at one time.
_RUNS_PER_MACHINE = 8


@dataclass
class _Run:
    """A line that runs on a member."""

    member: str
    note: str
    notes: RshFolder
    over: bool = False


def host_name(place: int) -> str:
    """What a machine is called in its containers, by its place in the gang."""
    return f"host{place}"


class MpiLeader:
    """See the module. Owns a thread from `gather` to `disband`."""

    def __init__(
        self,
        attempt: Attempt,
        link: GangLink,
        members: tuple[str, ...],
        forget: Callable[[str], None],
    ) -> None:
        """`members`: this machine first; `forget` is called when it is over."""
        self.members = members
        self._attempt = attempt
        self._link = link
        self._forget = forget
        self._others = members[1:]
        self._network = network_name(attempt.config.group_id)
        self._addresses = ""
        self._lock = threading.Lock()
        self._states = dict.fromkeys(self._others, "asked")
        #: Member → its last heartbeat, and when that was new (monotonic clock).
        self._beats: dict[str, tuple[float, float]] = {}
        self._runs: dict[str, _Run] = {}
        self._notes: list[tuple[int, RshFolder, dict[str, str]]] = []
        self._trouble: tuple[Cause, str] | None = None
        self._over = threading.Event()
        with about(attempt=attempt.spec.key):
            watch = in_context(self._watch)
        self._thread = threading.Thread(target=watch, name=f"gang-{attempt.spec.key}")

    def gather(self) -> None:
        """Have the others prepare, and begin to watch them.

        Raises:
            StageFailed: there is no network for them.
        """
        try:
            self._addresses = self._attempt.backend.make_network(self._network)
        except ContainerError as error:
            raise StageFailed(Cause.AGENT_ERROR, str(error)) from error
        self._thread.start()

    def wait(self) -> None:
        """Wait until all of them are ready. Raises Stopped."""
        self._attempt.switch.wait(None, self._all_ready)
        self._attempt.switch.check()
        log.info("event=gang_ready attempt=%s members=%s", self._attempt.spec.key, self.members)

    def _all_ready(self) -> bool:
        return all(state == "ready" for state in self._states.values())

    def disband(self) -> None:
        """Let the others go. Repeating it does no harm."""
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        key = self._attempt.spec.key
        for member in self._others:
            # If it cannot be said now, they find out by themselves.
            with contextlib.suppress(redis.RedisError):
                self._link.send(member, Message(Order.GANG_LEAVE, key))
        self._forget(key)
        self._link.disband(key)
        self._attempt.backend.remove_network(self._network)
        for _, notes, _ in self._notes:
            notes.close()

    def dress(self, spec: ContainerSpec, index: int) -> ContainerSpec:
        """Put an mpirun where it finds the other machines."""
        folder = self._attempt.folder / f"mpi-{index}"
        notes = RshFolder(folder)
        notes.put_shell()
        slots = self._attempt.config.vcpus
        names = [host_name(place) for place in range(len(self.members))]
        notes.put("hosts", "".join(f"{name} slots={slots}\n" for name in names))
        self._notes.append((index, notes, dict(spec.env)))
        return replace(
            spec,
            env={**self._settings(), **spec.env},
            peers=Peers(self._network, names[0], folder),
        )

    def _settings(self) -> dict[str, str]:
        """What mpirun is told, unless the task says otherwise."""
        mca = {
            "plm_rsh_agent": f"{PEERS_DIR}/rsh",
            "plm_rsh_no_tree_spawn": "1",
            # Else the daemons of the other machines leave the containers that they are to live in.
            "orte_leave_session_attached": "1",
            "orte_default_hostfile": f"{PEERS_DIR}/hosts",
            "oob_tcp_if_include": self._addresses,
            "btl_tcp_if_include": self._addresses,
            # Containers of one host would all be bound to its first cores.
            "hwloc_base_binding_policy": "none",
            # Containers may not read each other's memory.
            "btl_vader_single_copy_mechanism": "none",
        }
        return {"SHELL": "/bin/sh", **{f"OMPI_MCA_{name}": value for name, value in mca.items()}}

    def settle(self) -> None:
        """A command has failed: find out whether a machine, and not the command, is the cause.

        Trips the attempt's switch if so.
        """
        switch = self._attempt.switch
        switch.wait(_SETTLE_S, lambda: self._trouble is not None or not self._open())
        if switch.cause is not None:
            return
        missing = self._open()
        if self._trouble is not None:
            self._stop(*self._trouble)
        elif missing:
            self._lose(missing[0].member)

    def _open(self) -> list[_Run]:
        with self._lock:
            return [run for run in self._runs.values() if not run.over]

    def told(self, message: Message) -> None:
        """What a member says."""
        body = message.body
        member = str(body.get("member"))
        if member not in self._states:
            return
        if message.order is Order.GANG_RAN:
            self._ran(member, body)
        elif body["state"] == "reclaimed":
            if self._attempt.times is None:
                self._attempt.reclaim(float(body["at"]))
        elif body["state"] == "broken":
            self._stop(Cause(body["cause"]), str(body["detail"]))
        else:
            self._states[member] = str(body["state"])
        self._attempt.switch.wake()

    def _ran(self, member: str, body: dict[str, Any]) -> None:
        with self._lock:
            run = self._runs.get(str(body["request"]))
            if run is None or run.over or run.member != member:
                return
            if body.get("cause"):
                self._trouble = (Cause(body["cause"]), str(body["detail"]))
            run.over = True
            if not self._over.is_set():
                run.notes.answer(run.note, int(body["code"]))

    def _watch(self) -> None:
        looked = 0.0
        while True:
            try:
                if time.monotonic() - looked >= _LOOK_S:
                    looked = time.monotonic()
                    self._look()
                for index, notes, env in self._notes[-1:]:
                    self._relay(index, notes, env)
            except redis.RedisError as error:
                # While nobody can be heard, nobody is silent.
                self._beats.clear()
                log.warning("event=gang_waits error=%s", error)
            except Exception:
                log.exception("event=gang_broke attempt=%s", self._attempt.spec.key)
                self._stop(Cause.AGENT_ERROR, "The machines could not be kept together.")
                return
            if self._over.wait(_NOTES_S if self._notes else _LOOK_S):
                return

    def _look(self) -> None:
        key = self._attempt.spec.key
        self._link.keep(key, self.members)
        for place, member in enumerate(self.members):
            if self._states.get(member) == "asked":
                body = {"leader": self.members[0], "host": host_name(place)}
                self._link.send(member, Message(Order.GANG_JOIN, key, body=body))
        now = time.monotonic()
        for member, beat in self._link.beats(self._others).items():
            if self._beats.get(member, (None, 0))[0] != beat:
                self._beats[member] = (beat, now)
            elif now - self._beats[member][1] > limits.LEASE_S:
                self._lose(member)

    def _lose(self, member: str) -> None:
        self._stop(Cause.MACHINE_LOST, f"Machine {member} of the MPI group was lost.")

    def _stop(self, cause: Cause, detail: str) -> None:
        attempt = self._attempt
        if attempt.switch.cause is None:
            log.warning("event=gang_stops attempt=%s cause=%s %s", attempt.spec.key, cause, detail)
            attempt.stop(cause, detail)

    def _relay(self, index: int, notes: RshFolder, env: dict[str, str]) -> None:
        """Pass on what mpirun asks for."""
        hosts = {host_name(place): name for place, name in enumerate(self.members)}
        for note in notes.waiting():
            member = hosts.get(note.host)
            if member is None or member not in self._states:
                notes.taken(note)
                notes.answer(note.name, os.EX_NOHOST)
            elif len(self._open()) < _RUNS_PER_MACHINE * len(self._others):
                self._request(index, notes, note, member, env)

    def _request(
        self, index: int, notes: RshFolder, note: RshRequest, member: str, env: dict[str, str]
    ) -> None:
        request = f"{index}-{note.name}-{note.stamp}"
        with self._lock:
            self._runs.setdefault(request, _Run(member, note.name, notes))
        body = {"request": request, "index": index, "line": note.line, "env": env}
        # First sent, then taken: after an error it is sent again, and run once.
        self._link.send(member, Message(Order.GANG_RUN, self._attempt.spec.key, body=body))
        notes.taken(note)
