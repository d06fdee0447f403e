"""Submit → process started, and no-op tasks per second, beside Celery in the same run; and the
figures of the executor's promises, and of the client.

python -m bench [--tasks N] [--latency-tasks N] [--promises] [--client]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench import client, promises
from bench.celery_side import CelerySide
from bench.simherd_side import SimherdSide

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = (1, 4)
_KILLS = 20
_CASES = 1000
_NOTE = """\
It is not the same work. A Simherd task makes a row in SQL, uploads an input archive through the
API, is leased, runs in its own process group with its log captured, uploads an output archive,
and is recorded in SQL at each step. A Celery task here is a message in Redis and a subprocess. The
difference is the price of what Simherd promises. All tasks wait before the first one runs.
"""


def main() -> None:
    """Measure both, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--tasks", type=int, default=400, help="no-op tasks for each throughput")
    parser.add_argument("--latency-tasks", type=int, default=50, help="tasks one after another")
    parser.add_argument("--promises", action="store_true", help="only the executor's promises")
    parser.add_argument("--client", action="store_true", help="only the client's figures")
    asked = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, Python {platform.python_version()}, {platform.platform()}", flush=True)
    rows = [] if asked.client else _promises()
    if not asked.promises:
        rows += _client()
    if not asked.promises and not asked.client:
        for slots in SLOTS:
            rows += _simherd(slots, asked)
        for slots in SLOTS:
            rows += _celery(slots, asked)
        print(_NOTE)
    width = max(len(label) for label, _ in rows)
    for label, figure in rows:
        print(f"{label:<{width}}  {figure}")


def _promises() -> list[tuple[str, str]]:
    with _folder() as folder, SimherdSide(folder, 1) as simherd:
        memory, cpu = promises.idle_agent(simherd.data)
        to_signal, to_end = promises.kills(simherd, folder, _KILLS)
        outputs, more = promises.disk_use(simherd, simherd.data)
    return [
        ("Idle agent: its own memory", f"{memory / 1024**2:.1f} MiB"),
        ("Idle agent: CPU", f"{100 * cpu:.2f} % of a core"),
        ("Kill → SIGTERM in the simulation", _spread(to_signal)),
        ("Kill → final status", _spread(to_end)),
        (f"Disk use added by uploading {outputs / 1024**2:.0f} MiB", f"{more / 1024**2:.1f} MiB"),
    ]


def _client() -> list[tuple[str, str]]:
    with _folder() as folder, SimherdSide(folder, 4) as simherd:
        client.connect(simherd)
        ends = client.hears_of_ends(_KILLS)
        seen, listed = client.sees(simherd, _KILLS)
        rate = client.download(folder)
        passed = client.sweep(folder, _CASES)
    return [
        ("Client: end of a task → wait() returns", _spread(ends)),
        ("Client: line written → seen by one who follows", _spread(seen)),
        ("Client: list of a running task's files", _spread(listed)),
        (f"Client: sweep of {_CASES} cases submitted", f"{passed:.1f} s"),
        ("Client: outputs downloaded in parts", f"{rate / 1024**2:.0f} MiB/s"),
    ]


def _simherd(slots: int, asked: argparse.Namespace) -> list[tuple[str, str]]:
    rows = []
    with _folder() as folder, SimherdSide(folder, slots) as simherd:
        if slots == 1:
            whole, queued = simherd.latency(asked.latency_tasks)
            rows.append(("Simherd: submit → process started", _spread(whole)))
            rows.append(("  of it: inputs uploaded → process started", _spread(queued)))
        submitted, drained = simherd.throughput(asked.tasks)
        rows.append((f"Simherd, {slots} slot(s): submitted", f"{submitted:.0f} tasks/s"))
        rows.append((f"Simherd, {slots} slot(s): no-op tasks run", f"{drained:.1f} tasks/s"))
    return rows


def _celery(processes: int, asked: argparse.Namespace) -> list[tuple[str, str]]:
    rows = []
    if processes == 1:
        with _folder() as folder, CelerySide(folder, processes) as celery:
            spread = _spread(celery.latency(asked.latency_tasks))
            rows.append(("Celery: send → process started", spread))
    with _folder() as folder, CelerySide(folder, processes) as celery:
        drained = celery.throughput(asked.tasks)
        rows.append((f"Celery, {processes} process(es): no-op tasks run", f"{drained:.1f} tasks/s"))
    return rows


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="simherd-bench-") as folder:
        yield Path(folder)


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return f"p50 {statistics.median(ordered) * 1000:.1f} ms   p95 {p95 * 1000:.1f} ms"


if __name__ == "__main__":
    main()
