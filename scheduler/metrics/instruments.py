"""Counting where something happens: an addition in memory, never a query."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from scheduler.metrics import table
from simherd.runtime.metric_table import MetricKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simherd.runtime.metric_table import Measure

log = logging.getLogger(__name__)

#: What was counted in this process.
REGISTRY = CollectorRegistry()

# Each would double its series with the moment at which it was made.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_lock = threading.Lock()
_made: dict[str, Any] = {}


def inc(row: Measure, *labels: str, by: float = 1) -> None:
    """Add to a counter."""
    _child(row, labels).inc(by)


def observe(row: Measure, value: float, *labels: str) -> None:
    """Put a value into its bucket."""
    _child(row, labels).observe(value)


def set_gauge(row: Measure, value: float, *labels: str) -> None:
    """Set a gauge."""
    _child(row, labels).set(value)


def flush(counted: Iterable[tuple[Measure, tuple[str, ...], float]]) -> None:
    """Count what a unit of work has collected: its transaction is through."""
    for row, labels, value in counted:
        try:
            if row.kind is MetricKind.HISTOGRAM:
                observe(row, value, *labels)
            else:
                inc(row, *labels, by=value)
        except (TypeError, ValueError):
            # Executors say numbers, too. What is done after a commit must not depend on them.
            log.warning("event=not_counted metric=%s value=%r", row.name, value)


def init() -> None:
    """Have everything that can be counted there, with 0."""
    for row in table.COUNTED:
        for labels in row.begins or (() if row.labels else ((),)):
            _child(row, labels)


def _child(row: Measure, labels: tuple[str, ...]) -> Any:
    # Made when it is first asked for: by then it is known where this process keeps its numbers.
    with _lock:
        if row.name not in _made:
            _made[row.name] = _make(row)
        metric = _made[row.name]
    return metric.labels(*labels) if row.labels else metric


def _make(row: Measure) -> Counter | Gauge | Histogram:
    if row.kind is MetricKind.COUNTER:
        return Counter(row.name, row.help, row.labels, registry=REGISTRY)
    if row.kind is MetricKind.HISTOGRAM:
        return Histogram(row.name, row.help, row.labels, buckets=row.buckets, registry=REGISTRY)
    # Of the numbers of a worker's processes the latest: they are points in time.
    return Gauge(row.name, row.help, row.labels, registry=REGISTRY, multiprocess_mode="max")
