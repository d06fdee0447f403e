"""What Prometheus reads of this agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from executor.observability import instruments, table
from executor.observability.collectors import read_agent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from executor.observability.health_pages import Health


class ExecutorExposition(Collector):
    """The text for Prometheus: what was counted, and the agent as it is now."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(instruments.REGISTRY)
        self._registry.register(self)

    def text(self) -> bytes:
        """All numbers as they are now."""
        return prometheus_client.generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """What is looked at for this answer."""
        row = table.DEPENDENCY_UP
        family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
        for name, trouble in self._health.dependencies.ask().items():
            family.add_metric([name], float(trouble is None))
        yield family
        if self._health.insight is not None:
            for found, value in read_agent(self._health.insight.agent):
                yield GaugeMetricFamily(found.name, found.help, float(value))

    def describe(self) -> Iterable[Metric]:
        """Nothing: whoever registers it need not wait for answers."""
        return ()
