"""The leader of an MPI group: it runs the commands of an attempt and watches the other machines.

mpirun starts a process on another machine by a request file in a folder, which the leader sends as
a message, and for which the member runs a container.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import redis

from executor.attempt.errors import StageFailed
from executor.containers.base import PEERS_DIR, ContainerError, ContainerSpec, Peers
from executor.mpi.rsh_folder import RshFolder, RshRequest
from simherd.contract import limits
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from simherd.contract.join import network_name
from simherd.runtime.logs import about, in_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.attempt.context import Attempt
    from executor.link.mpi import GangLink

log = logging.getLogger(__name__)

#: Seconds between two looks for request files while a command may write some.
_REQUESTS_S = 0.1
#: Seconds between two checks of the other machines.
_CHECK_S = 2.0
#: Seconds after a failed command in which every machine must report how its part ended.
_DIAGNOSE_S = limits.LEASE_S + 5
#: Lines that may run on each machine at one time.
_RUNS_PER_MACHINE = 8


@dataclass
class _Run:
    """A line that runs on a member."""

    member: str
    request: str
    folder: RshFolder
    is_over: bool = False


def host_name(place: int) -> str:
    """Return the host name of a machine's containers, by its place in the group."""
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
        """`members`: this machine first; `forget` is called with the key when it is disbanded."""
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
        self._folders: list[tuple[int, RshFolder, dict[str, str]]] = []
        self._failure: tuple[Cause, str] | None = None
        self._over = threading.Event()
        with about(attempt=attempt.spec.key):
            watch = in_context(self._watch)
        self._thread = threading.Thread(target=watch, name=f"gang-{attempt.spec.key}")

    def gather(self) -> None:
        """Begin to ask the other machines to prepare, and to watch them.
        Raises StageFailed: the network for their containers could not be made."""
        try:
            self._addresses = self._attempt.backend.make_network(self._network)
        except ContainerError as error:
            raise StageFailed(Cause.AGENT_ERROR, str(error)) from error
        self._thread.start()

    def wait(self) -> None:
        """Wait until all machines are ready. Raises Stopped."""
        self._attempt.switch.wait(None, self._all_ready)
        self._attempt.switch.check()
        log.info("event=gang_ready attempt=%s members=%s", self._attempt.spec.key, self.members)

    def _all_ready(self) -> bool:
        return all(state == "ready" for state in self._states.values())

    def disband(self) -> None:
        """Release the other machines; a second call changes nothing."""
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        key = self._attempt.spec.key
        for member in self._others:
            # If Redis is unavailable, the members notice it by themselves.
            with contextlib.suppress(redis.RedisError):
                self._link.send(member, Message(Order.GANG_LEAVE, key))
        self._forget(key)
        self._link.disband(key)
        self._attempt.backend.remove_network(self._network)
        for _, folder, _ in self._folders:
            folder.close()

    def add_mpi_mounts(self, spec: ContainerSpec, index: int) -> ContainerSpec:
        """Return the container of the command `index` with mpirun's way to the other machines."""
        path = self._attempt.folder / f"mpi-{index}"
        folder = RshFolder(path)
        folder.put_shell()
        slots = self._attempt.config.vcpus
        names = [host_name(place) for place in range(len(self.members))]
        folder.put("hosts", "".join(f"{name} slots={slots}\n" for name in names))
        self._folders.append((index, folder, dict(spec.env)))
        return replace(
            spec,
            env={**self._settings(), **spec.env},
            peers=Peers(self._network, names[0], path),
        )

    def _settings(self) -> dict[str, str]:
        """Return the environment that configures mpirun; the task's environment has precedence."""
        mca = {
            "plm_rsh_agent": f"{PEERS_DIR}/rsh",
            "plm_rsh_no_tree_spawn": "1",
            # Otherwise the daemons on the other machines detach, and their containers end.
            "orte_leave_session_attached": "1",
            "orte_default_hostfile": f"{PEERS_DIR}/hosts",
            "oob_tcp_if_include": self._addresses,
            "btl_tcp_if_include": self._addresses,
            # Otherwise all containers of one host are bound to its first cores.
            "hwloc_base_binding_policy": "none",
            # Containers must not read each other's memory.
            "btl_vader_single_copy_mechanism": "none",
        }
        return {"SHELL": "/bin/sh", **{f"OMPI_MCA_{name}": value for name, value in mca.items()}}

    def diagnose_failure(self) -> None:
        """Stop the attempt if a machine, not the command itself, made the command fail. Waits until
        every machine has reported how its part ended."""
        switch = self._attempt.switch
        switch.wait(_DIAGNOSE_S, lambda: self._failure is not None or not self._open_runs())
        if switch.cause is not None:
            return
        missing = self._open_runs()
        if self._failure is not None:
            self._stop(*self._failure)
        elif missing:
            self._lose(missing[0].member)

    def _open_runs(self) -> list[_Run]:
        with self._lock:
            return [run for run in self._runs.values() if not run.is_over]

    def on_message(self, message: Message) -> None:
        """Handle a message of a member."""
        body = message.body
        member = str(body.get("member"))
        if member not in self._states:
            return
        if message.order is Order.GANG_RAN:
            self._run_ended(member, body)
        elif body["state"] == "reclaimed":
            if self._attempt.state.timetable is None:
                self._attempt.reclaim(float(body["at"]))
        elif body["state"] == "broken":
            self._stop(Cause(body["cause"]), str(body["detail"]))
        else:
            self._states[member] = str(body["state"])
        self._attempt.switch.wake()

    def _run_ended(self, member: str, body: dict[str, Any]) -> None:
        with self._lock:
            run = self._runs.get(str(body["request"]))
            if run is None or run.is_over or run.member != member:
                return
            if body.get("cause"):
                self._failure = (Cause(body["cause"]), str(body["detail"]))
            run.is_over = True
            if not self._over.is_set():
                run.folder.answer(run.request, int(body["code"]))

    def _watch(self) -> None:
        checked_at = 0.0
        while True:
            try:
                if time.monotonic() - checked_at >= _CHECK_S:
                    checked_at = time.monotonic()
                    self._check_members()
                for index, folder, env in self._folders[-1:]:
                    self._relay(index, folder, env)
            except redis.RedisError as error:
                # While Redis is unavailable, no member counts as silent.
                self._beats.clear()
                log.warning("event=gang_waits error=%s", error)
            except Exception:
                log.exception("event=gang_broke attempt=%s", self._attempt.spec.key)
                self._stop(Cause.AGENT_ERROR, "The machines could not be kept together.")
                return
            if self._over.wait(_REQUESTS_S if self._folders else _CHECK_S):
                return

    def _check_members(self) -> None:
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

    def _relay(self, index: int, folder: RshFolder, env: dict[str, str]) -> None:
        """Send the requests of mpirun to the members."""
        hosts = {host_name(place): name for place, name in enumerate(self.members)}
        for request in folder.waiting():
            member = hosts.get(request.host)
            if member is None or member not in self._states:
                folder.remove(request)
                folder.answer(request.name, os.EX_NOHOST)
            elif len(self._open_runs()) < _RUNS_PER_MACHINE * len(self._others):
                self._send_run(index, folder, request, member, env)

    def _send_run(
        self, index: int, folder: RshFolder, request: RshRequest, member: str, env: dict[str, str]
    ) -> None:
        name = f"{index}-{request.name}-{request.stamp}"
        with self._lock:
            self._runs.setdefault(name, _Run(member, request.name, folder))
        body = {"request": name, "index": index, "line": request.line, "env": env}
        # Removed after sending: after an error it is sent again, and the member runs it once.
        self._link.send(member, Message(Order.GANG_RUN, self._attempt.spec.key, body=body))
        folder.remove(request)
