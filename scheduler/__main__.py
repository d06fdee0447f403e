"""`simherd-scheduler api | worker | recorder | migrate`: build the parts, start one process.

`simherd-scheduler health` says whether the process of this container lives.

`simherd-scheduler bucket` makes the storage's bucket where there is none; `end-machines` ends every
machine that the providers have, for taking a deployment down.

`simherd-scheduler quota USERNAME NAME VALUE` sets what a user may have; it needs no more than the
database.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import nullcontext
from threading import Event
from typing import TypeVar

from pydantic import ValidationError

from scheduler import logs
from scheduler.config import Settings, StoreSettings
from scheduler.wiring import Parts
from simherd.contract import health_check

_S = TypeVar("_S", bound=StoreSettings)
#: Seconds that a storage has for its start, where its bucket is to be made.
_STORAGE_S = 120.0


def main() -> None:
    """Start the process that is named on the command line, or carry out the command."""
    parser = argparse.ArgumentParser(prog="simherd-scheduler")
    names = parser.add_subparsers(dest="process", required=True, metavar="COMMAND")
    for name in _PROCESSES:
        names.add_parser(name)
    names.add_parser("health", help="exit with 0 when this container's process lives, else with 1")
    quota = names.add_parser("quota", help="set what a user may have at one time")
    quota.add_argument("username")
    quota.add_argument("name")
    quota.add_argument("value", help="a number, or none: unlimited")
    given = parser.parse_args()
    if given.process == "health":
        sys.exit(health_check.of_scheduler())
    if given.process == "quota":
        _quota(given.username, given.name, given.value)
        return
    settings = _read(Settings)
    logs.set_up(settings.log_level)
    _PROCESSES[given.process](Parts(settings))


def _read(kind: type[_S]) -> _S:
    """The settings, or the end with what is wrong about them."""
    try:
        return kind()
    except ValidationError as error:
        for row in error.errors():
            name = f"SIMHERD_{'.'.join(map(str, row['loc'])).upper()}"
            print(f"simherd-scheduler: {name}: {row['msg']}", file=sys.stderr)
        sys.exit(2)


def _quota(username: str, name: str, value: str) -> None:
    from scheduler.services.errors import Refused
    from scheduler.services.quotas import set_quota
    from scheduler.store.engine import Store, open_engine

    store = Store(open_engine(_read(StoreSettings).database_url.get_secret_value()))
    try:
        number = None if value == "none" else float(value)
    except ValueError:
        sys.exit(f"simherd-scheduler: value: {value!r} is neither a number nor none.")
    try:
        with store.write() as session:
            set_quota(session, username, name, number)
    except Refused as error:
        sys.exit(f"simherd-scheduler: {error}")


def _api(parts: Parts) -> None:
    import uvicorn

    from scheduler.api.app import make_app
    from scheduler.health import served

    app = make_app(parts)
    with served(parts, "api", app.state.dependencies, app.state.pulse.trouble):
        uvicorn.run(
            app,
            host=parts.settings.host,
            port=parts.settings.port,
            log_config=None,
            access_log=False,
            # Signed URLs for many files make long request lines.
            h11_max_incomplete_event_size=1024 * 1024,
            http="h11",
            timeout_graceful_shutdown=5,
        )


def _worker(parts: Parts) -> None:
    from scheduler.health import dependencies, served
    from scheduler.jobs.app import CANARY, app
    from scheduler.metrics.exposition import shared_with_children
    from scheduler.services.carry_on_transfers import MOST_TURNS

    asked = dependencies(parts)

    def trouble() -> str | None:
        return CANARY.trouble(lambda: asked.ask()["broker"] is None)

    shared = nullcontext() if parts.settings.metrics_address is None else shared_with_children()
    with shared, served(parts, "worker", asked, trouble) as pages:
        if pages is not None:
            os.register_at_fork(after_in_child=pages.leave_to_parent)
        app.worker_main(
            [
                "worker",
                "--beat",
                # Fetches and exports, and one for the rest.
                f"--concurrency={MOST_TURNS + 1}",
                "--loglevel=WARNING",
                "--without-mingle",
                "--without-gossip",
                "--schedule=celerybeat-schedule",
            ]
        )


def _recorder(parts: Parts) -> None:
    from scheduler.health import dependencies, served
    from scheduler.recorder import Recorder

    stop, recorder = Event(), Recorder(parts)

    def on_signal(*_: object) -> None:
        stop.set()
        recorder.interrupt()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    with served(parts, "recorder", dependencies(parts), recorder.pulse.trouble):
        recorder.run(stop)


def _migrate(parts: Parts) -> None:
    from scheduler.store.engine import migrate

    migrate(parts.settings.database_url.get_secret_value())


def _bucket(parts: Parts) -> None:
    from scheduler.objects.s3 import S3Store

    if not isinstance(parts.objects, S3Store):
        sys.exit("simherd-scheduler: SIMHERD_S3_BUCKET is not set: there is no bucket to make.")
    end = time.monotonic() + _STORAGE_S
    while trouble := parts.objects.make_bucket():
        if time.monotonic() > end:
            sys.exit(f"simherd-scheduler: SIMHERD_S3_BUCKET: {trouble}")
        time.sleep(1)


def _end_machines(parts: Parts) -> None:
    from scheduler.services.end_machines import end_machines

    left = end_machines(parts.providers.values())
    if left:
        sys.exit(f"simherd-scheduler: these machines did not end: {', '.join(left)}.")


def _bootstrap(parts: Parts) -> None:
    from scheduler.services.first_start import first_start

    first_start(parts)


_PROCESSES = {
    "bootstrap": _bootstrap,
    "api": _api,
    "worker": _worker,
    "recorder": _recorder,
    "migrate": _migrate,
    "bucket": _bucket,
    "end-machines": _end_machines,
}

if __name__ == "__main__":
    main()
