"""The metrics of this agent, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from executor.observability import instruments, table
from executor.observability.collectors import read_agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

    from executor.observability.status import AgentView
    from simherd.runtime.health import Dependencies


class ExecutorExposition(Collector):
    """The text for Prometheus: counters and histograms, and gauges read at each request."""

    def __init__(self, dependencies: Dependencies, agent: Callable[[], AgentView | None]) -> None:
        """`agent` returns None until the machine has joined its group."""
        self._dependencies = dependencies
        self._agent = agent
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(instruments.REGISTRY)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all metrics as they are now."""
        return prometheus_client.generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        row = table.DEPENDENCY_UP
        family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
        for name, trouble in self._dependencies.ask().items():
            family.add_metric([name], float(trouble is None))
        yield family
        agent = self._agent()
        if agent is not None:
            for found, value in read_agent(agent):
                yield GaugeMetricFamily(found.name, found.help, float(value))

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering it does not read the gauges."""
        return ()
