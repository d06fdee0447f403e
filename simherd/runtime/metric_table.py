"""How a table of what is counted and measured is written down, for Prometheus and for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Upper bounds of a histogram's buckets, seconds: of calls, and of what lasts.
CALL_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 6 * 3600.0, 86400.0)


class MetricKind(str, Enum):
    """How a number behaves, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Measure:
    """One row: a name with its unit, how it behaves, what it says, and its labels. Labels have few
    values each: no task, user or machine is one."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    #: Label values that are there from the start on, with 0: what begins with 1 has not grown.
    begins: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        assert (self.kind is MetricKind.HISTOGRAM) == bool(self.buckets), self.name
        assert (self.kind is MetricKind.COUNTER) == self.name.endswith("_total"), self.name


def counter(name: str, text: str, *labels: str, begins: Iterable[tuple[str, ...]] = ()) -> Measure:
    """A number that only grows, from the start of its process on."""
    return Measure(name, MetricKind.COUNTER, text, labels, begins=tuple(begins))


def gauge(name: str, text: str, *labels: str) -> Measure:
    """A number as it is now."""
    return Measure(name, MetricKind.GAUGE, text, labels)


def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Measure:
    """How many were how long."""
    return Measure(name, MetricKind.HISTOGRAM, text, labels, buckets)
