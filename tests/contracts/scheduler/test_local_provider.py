"""What an agent that the provider `local` starts is told of its isolation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from scheduler.providers.base import LaunchTicket, MachinePlan
from scheduler.providers.local import LocalProvider
from simherd.contract.policy import INSECURE_BACKEND
from tests.support.waits import until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("backend", "is_insecure"), [("docker", False), ("process", True)])
def test_an_agent_may_do_without_isolation_only_where_the_scheduler_may(
    tmp_path: Path, backend: str, is_insecure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the scheduler's own environment has is not handed on by itself.
    monkeypatch.setenv(INSECURE_BACKEND, "true")
    provider = LocalProvider(tmp_path, backend, 1, serves_metrics=False, is_insecure=is_insecure)
    ticket = LaunchTicket("http://127.0.0.1:9", "join_nothing")
    plan = MachinePlan("m1", "g1", "m1", "local", "local-a", False, 1, 2**30, 10, ticket)
    handle = provider.launch(plan)
    try:
        process = psutil.Process(handle["pid"])
        # Until the program is loaded, it shows its parent's.
        until(lambda: process.environ().get("SIMHERD_BACKEND") == backend, what="its environment")
        told = process.environ()
        assert told.get(INSECURE_BACKEND) == ("true" if is_insecure else None)
    finally:
        until(lambda: provider.terminate("m1", handle, force=True), what="the agent's end")


def test_an_agent_without_isolation_does_not_start_where_nobody_allows_it(tmp_path: Path) -> None:
    provider = LocalProvider(tmp_path, "process", 1, serves_metrics=False)
    ticket = LaunchTicket("http://127.0.0.1:9", "join_nothing")
    plan = MachinePlan("m1", "g1", "m1", "local", "local-a", False, 1, 2**30, 10, ticket)
    handle = provider.launch(plan)
    log = tmp_path / "m1" / "agent.log"
    until(lambda: f"set {INSECURE_BACKEND}=true" in log.read_text(), what="the agent's refusal")
    until(lambda: provider.terminate("m1", handle, force=True), what="the agent's end")
