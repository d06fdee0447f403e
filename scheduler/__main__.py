"""`simherd-scheduler api | worker | recorder | bootstrap`: build the parts, start one process.

What else it does for operators is in `commands.py`.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from threading import Event
from typing import TypeVar

from pydantic import ValidationError

from scheduler import commands, logs
from scheduler.config import Settings, StoreSettings
from scheduler.wiring import Parts

log = logging.getLogger(__name__)

_S = TypeVar("_S", bound=StoreSettings)
#: Seconds between two tries while the database does not answer.
_DATABASE_RETRY_S = 1.0


def main() -> None:
    """Start the process that is named on the command line, or carry out the command."""
    parser = argparse.ArgumentParser(prog="simherd-scheduler")
    names = parser.add_subparsers(dest="process", required=True, metavar="COMMAND")
    for name in _PROCESSES:
        names.add_parser(name)
    commands.add_to(names)
    given = parser.parse_args()
    if given.process not in _PROCESSES:
        commands.run(given, _read(StoreSettings))
        return
    settings = _read(Settings)
    logs.set_up(settings.log_level)
    if given.process in _LASTING:
        _wait_for_schema(settings)
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


def _wait_for_schema(settings: Settings) -> None:
    """Return once the database answers and has a schema that this program can work with."""
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


def _api(parts: Parts) -> None:
    import uvicorn

    from scheduler.api.app import make_app

    uvicorn.run(
        make_app(parts),
        host=parts.settings.host,
        port=parts.settings.port,
        log_config=None,
        access_log=False,
        # Signed URLs for many files make long request lines.
        h11_max_incomplete_event_size=1024 * 1024,
        http="h11",
        timeout_graceful_shutdown=5,
    )


def _worker(_parts: Parts) -> None:
    from scheduler.jobs.app import app
    from scheduler.services.carry_on_transfers import MOST_TURNS

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
    from scheduler.recorder import Recorder

    stop, recorder = Event(), Recorder(parts)

    def on_signal(*_: object) -> None:
        stop.set()
        recorder.interrupt()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    recorder.run(stop)


def _bootstrap(parts: Parts) -> None:
    from scheduler.services.first_start import first_start

    first_start(parts)


_PROCESSES = {
    "bootstrap": _bootstrap,
    "api": _api,
    "worker": _worker,
    "recorder": _recorder,
}
#: These work with the database all the time, and so only with a schema that they can work with.
_LASTING = frozenset({"api", "worker", "recorder"})

if __name__ == "__main__":
    main()
