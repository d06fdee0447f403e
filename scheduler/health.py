"""What the scheduler's processes depend on, and serving that beside their metrics."""

from __future__ import annotations

import functools
import logging
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from redis.exceptions import OutOfMemoryError, ResponseError
from sqlalchemy import text

from scheduler.domain.limits import MAIN_SERVER
from scheduler.metrics.exposition import DependenciesCollector, SchedulerExposition
from scheduler.queue.group_queue import connect
from simherd.contract.queue.keys import READY
from simherd.runtime.health import Dependencies, Dependency, HealthTarget, Pages, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.registry import Collector
    from redis import Redis

    from scheduler.wiring import Runtime


log = logging.getLogger(__name__)

#: Seconds after which what was written to see whether it can be is gone.
_READY_S = 60


def dependencies(rt: Runtime) -> Dependencies:
    """What must be there for a process of the scheduler to do its work."""

    @cache
    def broker() -> Redis:
        return connect(rt.settings.broker_url.get_secret_value())

    def database() -> None:
        with rt.store.read() as session:
            session.execute(text("SELECT 1"))

    def ping() -> None:
        broker().ping()

    return Dependencies(
        {
            **dict(_redis(rt)),
            "database": Dependency("The database (SIMHERD_DATABASE_URL) does not answer", database),
            "storage": Dependency("The storage does not answer", lambda: rt.objects.trouble()),
            "broker": Dependency("Celery's broker (SIMHERD_BROKER_URL) does not answer", ping),
        }
    )


def _redis(rt: Runtime) -> Iterator[tuple[str, Dependency]]:
    for name, client in rt.queue.servers.all():
        if name == MAIN_SERVER:
            key, text = "redis", "Redis (SIMHERD_REDIS_URL) does not answer"
        else:
            key, text = f"redis_{name}", f"Redis {name} (SIMHERD_REDIS_SERVERS) does not answer"
        yield key, Dependency(text, functools.partial(_write_and_read, client, key))


def _write_and_read(client: Redis, name: str) -> str | None:
    """Why Redis cannot be worked with, as a sentence; None when it can: one that is full, or a
    replica, replies to a ping as any other."""
    try:
        client.set(READY, "1", ex=_READY_S)
        found = client.get(READY)
    except OutOfMemoryError:
        return f"Redis ({name}) has reached its memory limit."
    except ResponseError as error:
        log.warning("event=redis_refuses server=%s error=%s", name, error)
        return f"Redis ({name}) takes no writes."
    return None if found else f"Redis ({name}) does not keep what is written."


@contextmanager
def served(
    rt: Runtime,
    process: str,
    asked: Dependencies,
    trouble: Callable[[], str | None],
    *collectors: Collector,
) -> Iterator[Served | None]:
    """Serve a process' health and metrics meanwhile, where the settings say; else nothing.

    The process ends here when it cannot listen there: nobody would see it.

    `asked`: what the process depends on. `trouble`: why it is not live, as a sentence; None when it
    is. `collectors`: numbers that it alone shows.
    """
    address = rt.settings.metrics_address
    if address is None:
        yield None
        return
    known = DependenciesCollector(asked, rt.objects.free_bytes)
    pages = Pages(trouble, asked, SchedulerExposition(known, *collectors).text)
    target = HealthTarget(Path(f"metrics-{process}.json"), process)
    try:
        made = Served(*address, pages, target)
    except OSError as error:
        host, port = address
        sys.exit(
            f"simherd-scheduler: SIMHERD_METRICS_PORT: cannot listen on {host} port {port}: "
            f"{error.strerror}."
        )
    try:
        yield made
    finally:
        made.close()
