"""Every number that the scheduler's processes show to Prometheus.

`docs/metrics.md` is made from this table; its headings are the tuples below. What is counted is
counted where it happens; what is read from SQL and Redis is read for the scrape, in `state.py`.
"""

from __future__ import annotations

from simherd.contract.measures import gauge

DEPENDENCY_UP = gauge(
    "simherd_dependency_up",
    "1 while the process reaches what it depends on: redis, database, storage or broker; else 0.",
    "dependency",
)

#: Of every process.
EVERY = (DEPENDENCY_UP,)
