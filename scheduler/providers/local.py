"""Machines that are agent processes on this host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psutil

from scheduler.providers.base import MachineState, ProviderMachine
from simherd.contract.policy import INSECURE_BACKEND
from simherd.runtime.logs import FORMAT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from scheduler.providers.base import MachinePlan

#: Seconds for a process that was killed to be gone.
_KILL_S = 5.0


class LocalProvider:
    """Starts `executor` processes; each keeps its work below `root`/MACHINE."""

    revives = True
    by_hand = False

    def __init__(
        self,
        root: Path,
        backend: str,
        slots: int,
        *,
        serves_metrics: bool,
        is_insecure: bool = False,
    ) -> None:
        """`serves_metrics`: whether agents serve metrics for Prometheus, each at a free port.
        `is_insecure`: whether the operator allows simulations to run without isolation."""
        self._is_insecure = is_insecure
        self._serves_metrics = serves_metrics
        self._root = root
        self._backend = backend
        self.one_engine = backend == "docker"
        self._slots = slots

    def launch(self, plan: MachinePlan) -> dict[str, Any]:
        """See `MachineProvider`."""
        folder = self._root / plan.machine_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        (folder / "group").write_text(f"{plan.group_id}\n")
        before = _find(_agent_in(folder) or {})
        if before is not None:
            # Started by a worker that crashed before it stored the handle; its ticket is not
            # valid any more. What it runs goes on.
            before.kill()
            before.wait(_KILL_S)
        ticket = folder / "ticket.json"
        ticket.unlink(missing_ok=True)
        # Secrets go by file: other processes can read arguments and environments.
        with os.fdopen(os.open(ticket, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(plan.ticket), file)
        environment = {
            **_inherited(),
            "SIMHERD_TICKET_FILE": str(ticket),
            "SIMHERD_STATE_DIR": str(folder),
            "SIMHERD_BACKEND": self._backend,
            "SIMHERD_SLOTS": str(self._slots),
            "SIMHERD_SPOT_NOTICES": f"file://{folder / 'spot-notice'}",
        }
        if self._is_insecure:
            environment[INSECURE_BACKEND] = "true"
        if self._serves_metrics:
            environment["SIMHERD_METRICS_PORT"] = "0"
            # All in one folder: Prometheus takes a pattern for file names only.
            environment["SIMHERD_METRICS_FILE"] = str(self._metrics_file(plan.machine_id))
        with (folder / "agent.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "executor"],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # The machine outlives the worker that launched it.
                start_new_session=True,
            )
        return _handle(process.pid)

    def terminate(self, machine_id: str, handle: dict[str, Any], *, force: bool) -> bool:
        """See `MachineProvider`. The agent stops its simulations on SIGINT."""
        process = _find(handle)
        if process is not None:
            process.send_signal(signal.SIGKILL if force else signal.SIGINT)
        if process is None or force:
            # An agent that was killed does not remove it.
            self._metrics_file(machine_id).unlink(missing_ok=True)
        if process is not None:
            try:
                process.wait(timeout=0.2)
            except psutil.TimeoutExpired:
                return False
        return True

    def _metrics_file(self, machine_id: str) -> Path:
        return self._root / f"metrics-{machine_id}.json"

    def observe(self, machines: Mapping[str, dict[str, Any]]) -> dict[str, MachineState]:
        """See `MachineProvider`."""
        return {
            machine_id: MachineState.RUNNING if _find(handle) else MachineState.GONE
            for machine_id, handle in machines.items()
        }

    def list_machines(self) -> Iterator[ProviderMachine]:
        """See `MachineProvider`."""
        for file in self._root.glob("*/group"):
            handle = _agent_in(file.parent)
            if handle is not None:
                yield ProviderMachine(file.parent.name, file.read_text().strip(), handle)


def _agent_in(folder: Path) -> dict[str, Any] | None:
    """Return the handle of the agent that works in a machine's folder, if there is one."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        pid = int((folder / "agent.pid").read_text())
        # The process id may have been reused, even by another machine's agent.
        if psutil.Process(pid).cwd() == str(folder.resolve()):
            return _handle(pid)
    return None


def _handle(pid: int) -> dict[str, Any]:
    return {"pid": pid, "born": psutil.Process(pid).create_time()}


def _find(handle: dict[str, Any]) -> psutil.Process | None:
    """Return the process that `handle` names, if it is the same one and alive."""
    try:
        process = psutil.Process(handle["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            # It is a dead child of this process: reap it.
            process.wait(timeout=0)
            return None
        return process if abs(process.create_time() - handle["born"]) < 1 else None
    except (psutil.NoSuchProcess, psutil.TimeoutExpired, KeyError):
        return None


def _inherited() -> dict[str, str]:
    """Return the environment without the scheduler's settings, but for the log's format, and
    without its credentials."""
    own = ("SIMHERD_", "AWS_", "CELERY_", "PROMETHEUS_")
    return {k: v for k, v in os.environ.items() if k == FORMAT_VARIABLE or not k.startswith(own)}
