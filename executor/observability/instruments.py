"""Counters and histograms, updated in memory where something happens."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram

from executor.observability import table
from simherd.runtime.metric_table import Measure, MetricKind

if TYPE_CHECKING:
    from collections.abc import Iterator

# Without this each series would have a second one with its time of creation.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

#: The counters and histograms of this agent.
REGISTRY = CollectorRegistry()
_counters = {
    row.name: Counter(row.name, row.help, row.labels, registry=REGISTRY)
    for row in table.COUNTED
    if row.kind is MetricKind.COUNTER
}
_histograms = {
    row.name: Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=REGISTRY)
    for row in table.COUNTED
    if row.kind is MetricKind.HISTOGRAM
}
for _row in table.COUNTED:
    for _labels in _row.begins:
        _counters[_row.name].labels(*_labels)


def inc(row: Measure, *labels: str, by: float = 1) -> None:
    """Add to a counter."""
    metric = _counters[row.name]
    (metric.labels(*labels) if labels else metric).inc(by)


def observe(row: Measure, seconds: float, *labels: str) -> None:
    """Add a duration to a histogram."""
    metric = _histograms[row.name]
    (metric.labels(*labels) if labels else metric).observe(seconds)


@contextmanager
def timed(row: Measure) -> Iterator[None]:
    """Add the duration of the block to a histogram."""
    began = time.monotonic()
    try:
        yield
    finally:
        observe(row, time.monotonic() - began)
