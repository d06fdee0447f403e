"""Every number that an agent shows to Prometheus; `docs/metrics.md` is made from this table."""

from __future__ import annotations

from simherd.contract.measures import gauge

DEPENDENCY_UP = gauge(
    "simherd_executor_dependency_up",
    "1 while the agent reaches what it depends on: redis, engine, or room on its disk; else 0.",
    "dependency",
)

TABLE = (DEPENDENCY_UP,)
