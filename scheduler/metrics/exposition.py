"""What Prometheus reads of this process.

The worker's jobs run in child processes. What they count must outlive each of them, so the worker
keeps its numbers in files that its processes map into memory, one set for each place in its pool:
a child that takes another's place goes on with its numbers, and there are never more files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from scheduler.metrics import instruments, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

    from simherd.runtime.health import Dependencies

#: The environment variable that names the files' folder for prometheus_client.
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class _Place:
    name = "main"
    shared = False


def take_place(number: int) -> None:
    """In a child of the pool: count from here on as the one at this place."""
    _Place.name = str(number)


@contextmanager
def shared_with_children() -> Iterator[None]:
    """Keep the numbers where child processes add to them; before any of them is made."""
    owner, folder = os.getpid(), tempfile.mkdtemp(prefix="simherd-metrics-")
    os.environ[_FOLDER] = folder
    _Place.shared = True
    values.ValueClass = values.MultiProcessValue(lambda: _Place.name)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        # A child that ends in an unusual way passes by here, too.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


class SchedulerExposition:
    """The text for Prometheus."""

    def __init__(self, *collectors: Collector) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        instruments.init()
        if _Place.shared:
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        else:
            self._registry.register(instruments.REGISTRY)
        for collector in collectors:
            self._registry.register(collector)

    def text(self) -> bytes:
        """All numbers as they are now."""
        return prometheus_client.generate_latest(self._registry)


class DependenciesCollector(Collector):
    """Whether what the process depends on responds, and what room the storage has."""

    def __init__(self, dependencies: Dependencies, free_bytes: Callable[[], int | None]) -> None:
        self._dependencies = dependencies
        self._free_bytes = free_bytes

    def collect(self) -> Iterable[Metric]:
        """Ask them."""
        row = table.DEPENDENCY_UP
        family = GaugeMetricFamily(row.name, row.help, labels=row.labels)
        for name, trouble in self._dependencies.ask().items():
            family.add_metric([name], float(trouble is None))
        yield family
        free = self._free_bytes()
        if free is not None:
            yield GaugeMetricFamily(table.STORAGE_FREE.name, table.STORAGE_FREE.help, free)

    def describe(self) -> Iterable[Metric]:
        """Nothing: its registration does not wait for replies."""
        return ()
