"""A large fleet on this machine: real Redis servers, Lua, PostgreSQL, recorders and workers; only
the executors are simulated, all of them by this one process.

python -m bench.fleet [--executors N] [--tasks N] [--groups N] [--redis N] [--recorders N]
                      [--workers N] [--task-seconds S] [--seconds S]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy import select

from bench.fleet.agents import Agents
from bench.fleet.probe import probe
from bench.fleet.rows import make_groups, make_tasks
from bench.fleet.site import Site, wait_s
from scheduler.services.accounts.users import create_key
from scheduler.store.models import GroupRow
from simherd.contract.queue.keys import GroupKeys

if TYPE_CHECKING:
    from bench.fleet.agents import Figures

#: Requests of each kind that are timed while the fleet is at work, and tasks of a probe.
_REQUESTS, _ROUNDS = 50, 100
_KEY = "bench"


def main() -> None:
    """Fill SQL, start everything, let the fleet work for a while, and print a table."""
    asked = _arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, asked.executors + 2000), hard))
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, Python {platform.python_version()}, {platform.platform()}", flush=True)
    print(vars(asked), flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="simherd-fleet-") as folder,
        Site(Path(folder), asked.redis, asked.workers, asked.recorders) as site,
    ):
        _fill(site, asked)
        asyncio.new_event_loop().run_until_complete(_work(site, asked))
        for line in site.errors()[:20]:
            print(line, flush=True)
    # Not by the end of `asyncio.run`: ten thousand executors take minutes to be cancelled.
    os._exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--executors", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--redis", type=int, default=2, help="Redis servers")
    parser.add_argument("--recorders", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--task-seconds", type=float, default=600, help="mean length of a task")
    parser.add_argument("--seconds", type=float, default=120, help="how long the fleet is watched")
    return parser.parse_args()


def _fill(site: Site, asked: argparse.Namespace) -> None:
    """SQL, then Redis from SQL, as after the loss of every Redis server."""
    groups = site.groups = make_groups(site, asked.groups, asked.executors)
    with site.rt.store.write() as session:
        create_key(session, groups[0].user_id, "bench", _KEY)
    began = time.monotonic()
    make_tasks(site, groups, asked.tasks)
    _row("Rows of the tasks and their history written", _since(began))
    site.start_scheduler()
    queue_length = site.rt.queue.reader.queue_length
    first = wait_s(lambda: all(queue_length(g.id) for g in groups), 600, "the first tasks")
    _row("From SQL to empty Redis: every group has tasks to claim", f"{first:.1f} s")
    rest = wait_s(lambda: sum(queue_length(g.id) for g in groups) >= asked.tasks, 3600, "tasks")
    rate = asked.tasks / (first + rest)
    _row(f"  all {asked.tasks} tasks are queued", f"{first + rest:.0f} s ({rate:.0f}/s)")
    for name, used in site.redis_memory().items():
        _row(f"  memory of Redis {name}", f"{used / 1024**3:.2f} GiB")


async def _work(site: Site, asked: argparse.Namespace) -> None:
    agents = Agents(site.urls, site.groups, asked.task_seconds)
    figures = agents.figures
    agents.start()
    began = time.monotonic()
    while len(figures.attempts) < asked.executors and time.monotonic() - began < 900:
        await asyncio.sleep(0.2)
    _row(f"{len(figures.attempts)} executors have logged in and claimed", _since(began))
    _row("  a claim among them", _spread(figures.claims))
    while await asyncio.to_thread(_oldest_report, site) > 1 and time.monotonic() - began < 900:
        await asyncio.sleep(0.5)
    _row("  what they reported is recorded, but for the last second", _since(began))
    await _steady(site, asked, figures)
    twice = sum(1 for count in figures.attempts.values() if count > 1)
    _row("Attempts that were claimed twice", str(twice))


async def _steady(site: Site, asked: argparse.Namespace, figures: Figures) -> None:
    """What a fleet at work costs, and how it feels."""
    figures.claims.clear()
    figures.beats.clear()
    before, used, began = figures.counts.copy(), site.cpu_seconds(), time.monotonic()
    own = time.process_time()
    lags = await _watch(site, asked.seconds)
    seconds, counts = time.monotonic() - began, figures.counts - before
    own_share = 100 * (time.process_time() - own) / seconds
    _row("At work: heartbeats", f"{len(figures.beats) / seconds:.0f}/s, {_spread(figures.beats)}")
    _row("  claims", f"{len(figures.claims) / seconds:.1f}/s, {_spread(figures.claims)}")
    _row("  reports recorded", f"{counts['reports'] / seconds:.0f}/s")
    _row("  age of the oldest report that is not recorded", _spread(lags))
    _row("  leases lost", str(counts["lost"]))
    for name, after in site.cpu_seconds().items():
        _row(f"  CPU of {name}", f"{100 * (after - used[name]) / seconds:.0f} % of a core")
    _row("  CPU of the simulated executors", f"{own_share:.0f} % of a core")
    broken = {k: v for k, v in counts.items() if ":" in k}
    _row("  calls that failed and were repeated", str(broken or "none"))
    await asyncio.to_thread(_requests, site)
    await asyncio.to_thread(_probes, site)


async def _watch(site: Site, seconds: float) -> list[float]:
    """How old the oldest report is that waits for a recorder, again and again."""
    lags, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        lags.append(await asyncio.to_thread(_oldest_report, site))
        await asyncio.sleep(0.5)
    return lags


def _oldest_report(site: Site) -> float:
    ages = [0.0]
    for group in site.groups:
        client: Any = site.rt.queue.servers.of(group.id)
        cursor = _cursor(site, group.id)
        entries = client.xrange(GroupKeys(group.id).events, min=f"({cursor}", count=1)
        ages += [time.time() - int(entry.partition("-")[0]) / 1000 for entry, _ in entries]
    return max(ages)


def _cursor(site: Site, group: str) -> str:
    with site.rt.store.read() as session:
        return session.scalars(select(GroupRow.event_cursor).where(GroupRow.id == group)).one()


def _requests(site: Site) -> None:
    """How long users wait for the API."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{site.port}", headers={"X-API-Key": _KEY}, timeout=30
    ) as api:
        newest = api.get("/tasks", params={"per_page": 1}).raise_for_status().json()["tasks"][0]
        for what, path in (
            ("list of the newest tasks", "/tasks?per_page=20"),
            ("a task's status and position in the queue", f"/tasks/{newest['task_id']}/status"),
        ):
            times = []
            for _ in range(_REQUESTS):
                began = time.monotonic()
                api.get(path).raise_for_status()
                times.append(time.monotonic() - began)
            _row(f"  API: {what}", _spread(times))


def _probes(site: Site) -> None:
    """What one executor more sees, which has a process to itself; one on each Redis server."""
    groups = {group.server: group for group in site.groups}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for server, group in groups.items():
            seen = pool.submit(probe, site.urls[server], group, _ROUNDS).result()
            _row(f"One executor more, Redis {server}: a claim", _spread(seen.claims))
            _row("  a heartbeat", _spread(seen.beats))
            _row("  from its reports to their record in SQL", _spread(seen.records))


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    p95, p99 = (ordered[round(share * (len(ordered) - 1))] for share in (0.95, 0.99))
    p50 = statistics.median(ordered)
    return f"p50 {p50 * 1000:.1f}  p95 {p95 * 1000:.1f}  p99 {p99 * 1000:.1f} ms"


def _row(label: str, figure: str) -> None:
    # As soon as it is known: a run is long.
    print(f"{label:<60}  {figure}", flush=True)


if __name__ == "__main__":
    main()
