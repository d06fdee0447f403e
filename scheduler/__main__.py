"""`simherd-scheduler api | worker | recorder | bootstrap`: build the parts, start one process.

`bootstrap` brings the database to this program's schema and makes the first user and group.

`simherd-scheduler health` says whether the process of this container lives.

`simherd-scheduler bucket` makes the storage's bucket where there is none; `end-machines` ends every
machine that the providers have, for taking a deployment down.

What else it does for operators is in `operator_cli.py`.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from contextlib import nullcontext
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError
from pydantic_settings import SettingsError

from scheduler import logs, operator_cli, preflight
from scheduler.config import Settings, StoreSettings
from scheduler.wiring import Runtime
from simherd.runtime import health_check
from simherd.runtime.logs import LogFormat

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_S = TypeVar("_S", bound=StoreSettings)
#: Seconds between two tries while the database is unavailable.
_DATABASE_RETRY_S = 1.0
#: Seconds that a storage has for its start, where its bucket is to be made.
_STORAGE_S = 120.0


def main() -> None:
    """Start the process that is named on the command line, or carry out the command."""
    parser = argparse.ArgumentParser(prog="simherd-scheduler")
    names = parser.add_subparsers(dest="process", required=True, metavar="COMMAND")
    for name, (_, does) in _PROCESSES.items():
        names.add_parser(name, help=does)
    names.add_parser("health", help="exit with 0 when this container's process lives, else with 1")
    operator_cli.add_to(names)
    given = parser.parse_args()
    if given.process == "health":
        sys.exit(health_check.of_scheduler())
    if given.process not in _PROCESSES:
        operator_cli.run(given, _read(StoreSettings))
        return
    settings = _read(Settings)
    findings = preflight.look(settings, os.environ)
    preflight.stop_or_warn([one for one in findings if one.is_contradiction], "warn")
    logs.configure_logging(given.process, settings.log_level, settings.log_format)
    rt = Runtime(settings, _send_job)
    if given.process in _LASTING:
        from scheduler.services.accounts.provider_access import log_groups_without_provider

        findings += preflight.look_at_redis(settings.redis_urls)
        preflight.stop_or_warn(findings, settings.unsafe_settings)
        _wait_for_schema(settings)
        _check_servers(rt)
        log_groups_without_provider(rt)
    _PROCESSES[given.process][0](rt)


def _send_job(name: str, *arguments: str) -> None:
    # Celery is slow to import: only a process that sends a job pays for it.
    from scheduler.jobs.app import send

    send(name, *arguments)


def _read(kind: type[_S]) -> _S:
    """The settings, or the end with what is wrong about them."""
    # Before they are read: pydantic would print a warning with a line of its code.
    findings = list(preflight.of_secrets_dir(os.environ))
    preflight.stop_or_warn(findings, "warn")
    try:
        return kind()
    except ValidationError as error:
        said = list(preflight.refusals(error))
    except SettingsError as error:
        said = [preflight.not_json(error)]
    except (OSError, UnicodeDecodeError) as error:
        said = [f"SIMHERD_SECRETS_DIR: a file in it cannot be read: {error}"]
    for line in said:
        print(f"simherd-scheduler: {line}", file=sys.stderr)
    sys.exit(2)


def _wait_for_schema(settings: Settings) -> None:
    """Return once the database is available and has a schema that this program can work with."""
    from sqlalchemy.exc import OperationalError

    from scheduler.store import schema
    from scheduler.store.engine import open_engine

    engine = open_engine(settings.database_url.get_secret_value())
    while True:
        try:
            with engine.connect() as connection:
                schema.check(connection)
        except schema.SchemaError as error:
            sys.exit(f"simherd-scheduler: {error}")
        except OperationalError as error:
            log.warning("event=database_waits error=%s", error)
            time.sleep(_DATABASE_RETRY_S)
        else:
            engine.dispose()
            return


def _check_servers(rt: Runtime) -> None:
    from scheduler.services.groups.register import unnamed_servers

    unnamed = unnamed_servers(rt)
    if unnamed:
        sys.exit(
            f"simherd-scheduler: SIMHERD_REDIS_SERVERS: it does not name {', '.join(unnamed)}, and "
            "machine groups are there. Name it until they are terminated."
        )


def _api(rt: Runtime) -> None:
    from scheduler.api.app import make_app
    from scheduler.api.edge.server import serve
    from scheduler.health import served

    # uvicorn ends in good order, and then sends itself the signal again: that is to be no death.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app = make_app(rt)
    with served(rt, "api", app.state.dependencies, app.state.pulse.trouble):
        serve(app, rt.settings)


def _worker(rt: Runtime) -> None:
    from scheduler.health import dependencies, served
    from scheduler.jobs.app import app
    from scheduler.jobs.measured import CANARY
    from scheduler.metrics.exposition import shared_with_children
    from scheduler.services.storage.transfer_worker import MOST_TURNS

    asked = dependencies(rt)
    if rt.settings.log_format is LogFormat.JSON:
        # Celery prints its own end there, which is not a log line: ours go to standard error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def trouble() -> str | None:
        return CANARY.trouble(lambda: asked.ask()["broker"] is None)

    shared = nullcontext() if rt.settings.metrics_address is None else shared_with_children()
    with shared, served(rt, "worker", asked, trouble) as pages:
        if pages is not None:
            os.register_at_fork(after_in_child=pages.leave_to_parent)
        # Not by its command line, which costs a third of a second more to start.
        worker = app.Worker(
            quiet=True,  # its banner is not a log line
            beat=True,
            # Fetches and exports, and one for the rest.
            concurrency=MOST_TURNS + 1,
            loglevel="WARNING",
            without_mingle=True,
            without_gossip=True,
            schedule_filename="celerybeat-schedule",
        )
        worker.start()
    sys.exit(worker.exitcode)


def _recorder(rt: Runtime) -> None:
    from scheduler.health import dependencies, served
    from scheduler.metrics import table
    from scheduler.metrics.collectors import read_state
    from scheduler.metrics.snapshot import StateCollector
    from scheduler.recorder import Recorder

    stop, recorder = Event(), Recorder(rt)

    def on_signal(*_: object) -> None:
        stop.set()
        recorder.wake()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    state = StateCollector(table.STATE, lambda: read_state(rt))
    with served(rt, "recorder", dependencies(rt), recorder.trouble, state):
        recorder.run(stop)
    rt.close()


def _bucket(rt: Runtime) -> None:
    from scheduler.objects.s3 import S3Store

    if not isinstance(rt.objects, S3Store):
        sys.exit("simherd-scheduler: SIMHERD_S3_BUCKET is not set: there is no bucket to make.")
    end = time.monotonic() + _STORAGE_S
    while trouble := rt.objects.make_bucket():
        if time.monotonic() > end:
            sys.exit(f"simherd-scheduler: SIMHERD_S3_BUCKET: {trouble}")
        time.sleep(1)


def _end_machines(rt: Runtime) -> None:
    from scheduler.services.accounts.provider_access import providers_in_use
    from scheduler.services.machines.terminate_all import end_machines

    left = end_machines(providers_in_use(rt).values())
    if left:
        sys.exit(f"simherd-scheduler: these machines did not end: {', '.join(left)}.")


def _bootstrap(rt: Runtime) -> None:
    from scheduler.services.bootstrap import bootstrap
    from scheduler.services.errors import ServiceError
    from scheduler.store.engine import migrate
    from scheduler.store.schema import SchemaError
    from simherd.contract.bootstrap import KEY_IS_UNUSABLE

    try:
        migrate(rt.settings.database_url.get_secret_value())
    except SchemaError as error:
        sys.exit(f"simherd-scheduler: {error}")
    try:
        if not bootstrap(rt):
            print(KEY_IS_UNUSABLE)
    except ServiceError as error:
        sys.exit(f"simherd-scheduler: bootstrap: {error}")


#: Name → what starts it, and what `--help` says of it.
_PROCESSES: dict[str, tuple[Callable[[Runtime], None], str]] = {
    "api": (_api, "serve the HTTP API"),
    "recorder": (_recorder, "store what machines report"),
    "worker": (_worker, "run background jobs: sweeps, transfers, events, machines"),
    "bootstrap": (_bootstrap, "bring the schema up to date; make the first user and group"),
    "bucket": (_bucket, "make the bucket of SIMHERD_S3_BUCKET where it does not exist"),
    "end-machines": (_end_machines, "end every machine that the providers have"),
}
#: These work with the database all the time, and so only with a schema that they can work with.
_LASTING = frozenset({"api", "worker", "recorder"})

if __name__ == "__main__":
    main()
