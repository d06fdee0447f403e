"""This machine's part in an attempt that another machine leads."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import redis

from executor.attempt.errors import StageFailed, Stopped
from executor.attempt.stages.commands import container_spec
from executor.attempt.stages.prepare import fetch
from executor.containers.base import ContainerError, ContainerSpec, Exit, Peers, Running
from executor.mpi.rsh_folder import RshFolder
from simherd.contract.cause import Cause
from simherd.contract.inbox import Message, Order
from simherd.contract.join import network_name
from simherd.runtime.logs import about, in_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.attempt.context import Attempt
    from executor.link.mpi import GangLink
    from simherd.contract.reports import ReportKind

log = logging.getLogger(__name__)

#: Seconds between two checks whether the attempt still runs, and how many in a row must fail:
#: Redis may have lost its data, and then the leader writes the members again.
_CHECK_S, _CHECKS = 2.0, 5
#: Lines that this machine runs for one attempt at the same time.
_MOST_RUNS = 32
#: Limit of the log of an MPI library's daemon, bytes.
_LOG_BYTES = 2**20
#: The exit code of a remote shell that could not start its command.
_NOT_RUN = 255


class NoReports:
    """Drops the reports of a member: the leader reports for all machines."""

    def report(self, attempt: str, kind: ReportKind, at: float | None = None, **body: Any) -> None:
        """See `Reports`."""

    def note(self, attempt: str, **notes: Any) -> None:
        """See `Reports`."""


class MpiMember:
    """See the module. Owns its threads and its containers."""

    def __init__(
        self,
        attempt: Attempt,
        link: GangLink,
        leader: str,
        host: str,
        forget: Callable[[MpiMember], None],
    ) -> None:
        """`host`: the host name of this machine's containers; `forget` is called at the end."""
        self.attempt = attempt
        self._link = link
        self._leader = leader
        self._host = host
        self._forget = forget
        self._network = network_name(attempt.config.group_id)
        self._state: dict[str, Any] = {"state": "joining"}
        self._left = threading.Event()
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._running: list[Running] = []
        self._runs: list[threading.Thread] = []
        with about(attempt=attempt.spec.key):
            run = in_context(self._run)
        self._thread = threading.Thread(target=run, name=f"member-{attempt.spec.key}")

    def start(self) -> None:
        """Begin to prepare."""
        self._thread.start()

    def leave(self) -> None:
        """End this machine's part; returns at once."""
        self.attempt.switch.trip(Cause.LEASE_LOST)
        self._left.set()

    def join(self) -> None:
        """Wait until all threads and containers have ended."""
        self._thread.join()

    def fail(self, cause: Cause, detail: str) -> None:
        """Ask the leader to stop the attempt; containers here run until it does."""
        self._report_state(state="broken", cause=cause.value, detail=detail)

    def reclaimed(self, at: float) -> None:
        """Notify the leader that this machine is reclaimed `at`, seconds since the epoch."""
        self._report_state(state="reclaimed", at=at)

    def repeat_state(self) -> None:
        """Send the state of this machine to the leader again."""
        self._report_state(**self._state)

    def _report_state(self, **state: Any) -> None:
        self._state = state
        self._send(Order.GANG_STATE, state)

    def _send(self, order: Order, body: dict[str, Any]) -> None:
        message_body = {"member": self._link.executor, **body}
        # What is lost the leader asks for again, or it finds this machine silent.
        with contextlib.suppress(redis.RedisError):
            self._link.send(self._leader, Message(order, self.attempt.spec.key, body=message_body))

    def _run(self) -> None:
        key = self.attempt.spec.key
        log.info("event=gang_joined attempt=%s leader=%s", key, self._leader)
        try:
            self.repeat_state()
            fetch(self.attempt)
            self._report_state(state="ready")
            self._watch()
        except Stopped:
            pass
        except StageFailed as failed:
            self.fail(failed.cause, f"On machine {self._link.executor}: {failed.detail}")
        except Exception as error:
            log.exception("event=member_broke attempt=%s", key)
            self.fail(Cause.AGENT_ERROR, f"Machine {self._link.executor} failed: {error}")
        finally:
            self._clean_up()
            log.info("event=gang_left attempt=%s", key)

    def _watch(self) -> None:
        """Return when the attempt is over, even if no message says so."""
        misses = 0
        while not self._left.wait(_CHECK_S):
            if self.attempt.switch.cause is not None:
                return
            try:
                is_member = self._link.executor in self._link.members(self.attempt.spec.key)
            except redis.RedisError:
                continue
            misses = 0 if is_member else misses + 1
            if misses >= _CHECKS:
                log.warning("event=gang_is_gone attempt=%s", self.attempt.spec.key)
                return

    def _clean_up(self) -> None:
        self.leave()
        with self._lock:
            runs, running = list(self._runs), list(self._running)
        for container in running:
            with contextlib.suppress(ContainerError):
                container.stop(0)
        for thread in runs:
            thread.join()
        self.attempt.backend.remove_network(self._network)
        self.attempt.volume.close()
        self.attempt.series.unlink(missing_ok=True)
        self.attempt.slot.give()
        self._forget(self)

    def run_line(self, body: dict[str, Any]) -> None:
        """Run a line of the leader's command in a new container; returns at once."""
        request = str(body["request"])
        with self._lock:
            self._runs = [thread for thread in self._runs if thread.is_alive()]
            if request in self._seen or self._left.is_set():
                return
            self._seen.add(request)
            if len(self._runs) >= _MOST_RUNS:
                self._send(Order.GANG_RAN, {"request": request, "code": _NOT_RUN})
                return
            name = f"line-{request}"
            with about(attempt=self.attempt.spec.key):
                run = in_context(self._run_line)
            thread = threading.Thread(target=run, args=(request, body), name=name)
            self._runs.append(thread)
            thread.start()

    def _run_line(self, request: str, body: dict[str, Any]) -> None:
        result: dict[str, Any] = {"code": _NOT_RUN}
        try:
            ended = self._run_container(self._spec(request, body))
            result = {"code": ended.code, **self._diagnose(ended)}
        except (ContainerError, OSError, ValueError, LookupError) as error:
            detail = f"Machine {self._link.executor} could not run its part: {error}"
            result |= {"cause": Cause.AGENT_ERROR.value, "detail": detail}
        log.info("event=line_ended attempt=%s result=%s", self.attempt.spec.key, result)
        if not self._left.is_set():
            self._send(Order.GANG_RAN, {"request": request, **result})

    def _spec(self, request: str, body: dict[str, Any]) -> ContainerSpec:
        index = int(body["index"])
        folder = self.attempt.folder / f"mpi-{request}"
        rsh_folder = RshFolder(folder)
        try:
            # The MPI daemon checks that the file exists, though it never runs it.
            rsh_folder.put_shell()
        finally:
            rsh_folder.close()
        spec = container_spec(self.attempt, index, self.attempt.commands[index])
        return replace(
            spec,
            name=f"{spec.name}-{self._host}-{len(self._seen)}",
            argv=("sh", "-c", str(body["line"])),
            env={**spec.env, **body["env"]},
            stdin=b"",
            cwd=".",
            stdout=self.attempt.folder / f"{request}.out",
            stderr=self.attempt.folder / f"{request}.err",
            log_limit_bytes=_LOG_BYTES,
            peers=Peers(self._network, self._host, folder),
        )

    def _run_container(self, spec: ContainerSpec) -> Exit:
        running = self.attempt.backend.start(spec)
        try:
            with self._lock:
                self._running.append(running)
            if self._left.is_set():
                # The clean-up may have read the list just before.
                running.stop(0)
            ended = running.wait(None)
            assert ended is not None
            return ended
        finally:
            with self._lock:
                self._running.remove(running)
            running.remove()

    def _diagnose(self, ended: Exit) -> dict[str, str]:
        """Return the cause of an end that is not the command's own exit."""
        me = self._link.executor
        if ended.oom:
            cause, what = Cause.OUT_OF_MEMORY, "it used more memory than it may"
        elif self.attempt.volume.is_full():
            cause, what = Cause.DISK_LIMIT, "it used more disk space than there is"
        elif ended.signal == 9:
            cause, what = Cause.MACHINE_LOST, "it was killed"
        else:
            return {}
        return {"cause": cause.value, "detail": f"On machine {me} of the MPI group {what}."}
