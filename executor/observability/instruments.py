"""Counting where something happens: an addition in memory."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram

from executor.observability import table
from simherd.runtime.metric_table import MetricKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simherd.runtime.metric_table import Measure

# Each would double its series with the moment at which it was made.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

#: What was counted in this agent.
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
    made = _counters[row.name]
    (made.labels(*labels) if labels else made).inc(by)


def observe(row: Measure, seconds: float, *labels: str) -> None:
    """Put a length into its bucket."""
    made = _histograms[row.name]
    (made.labels(*labels) if labels else made).observe(seconds)


@contextmanager
def timed(row: Measure) -> Iterator[None]:
    """Put the time that the block takes into its bucket."""
    began = time.monotonic()
    try:
        yield
    finally:
        observe(row, time.monotonic() - began)
