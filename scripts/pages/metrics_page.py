"""The page of the metrics: `python -m scripts.pages.metrics_page > docs/metrics.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.observability import table as of_executor
from scheduler.metrics import table as of_scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from simherd.runtime.metric_table import Measure

_HEAD = """\
# Metrics

Written by `python -m scripts.pages.metrics_page` from `scheduler/metrics/table.py` and
`executor/observability/table.py`; a test compares them. Change the tables, not this page.

With `SIMHERD_METRICS_PORT` every process shows its numbers at `/metrics`
([operating.md](operating.md#health)), beside those of the process itself (`process_…`; of the
worker, its parent). How to have them collected, the board and the alerts: [runbook.md](runbook.md).

Units are seconds, bytes and US$. A histogram `NAME` has `NAME_bucket` (with the label `le`),
`NAME_sum` and `NAME_count`. No label holds a task, a user or a machine. `group` and `name` are id
and name of a machine group that has not ended; with jobs, `name` is the job's. Numbers that are
counted begin at 0 with each start of their process: ask for `rate` or `increase`.
"""
_EXECUTOR = "Executor"


def page() -> str:
    """The whole page, as Markdown."""
    sections = {**of_scheduler.SECTIONS, _EXECUTOR: (*of_executor.COUNTED, *of_executor.STATE)}
    lines = [line for heading, rows in sections.items() for line in _section(heading, rows)]
    return "\n".join([_HEAD, *lines])


def _section(heading: str, rows: Iterable[Measure]) -> Iterator[str]:
    yield f"## {heading}\n"
    yield "| Name | Kind | Labels | What it says |"
    yield "|---|---|---|---|"
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        yield f"| `{row.name}` | {row.kind.value} | {labels} | {row.help} |"
    yield ""


if __name__ == "__main__":
    print(page(), end="")
