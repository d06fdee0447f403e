"""`simherd-scheduler api | worker | recorder | migrate`: build the parts, start one process."""

from __future__ import annotations

import argparse
import signal
import sys
from threading import Event

from pydantic import ValidationError

from scheduler import logs
from scheduler.config import Settings
from scheduler.wiring import Parts


def main() -> None:
    """Start the process that is named on the command line."""
    parser = argparse.ArgumentParser(prog="simherd-scheduler")
    parser.add_argument("process", choices=sorted(_PROCESSES))
    process = parser.parse_args().process
    try:
        settings = Settings()
    except ValidationError as error:
        for row in error.errors():
            name = f"SIMHERD_{'.'.join(map(str, row['loc'])).upper()}"
            print(f"simherd-scheduler: {name}: {row['msg']}", file=sys.stderr)
        sys.exit(2)
    logs.set_up(settings.log_level)
    _PROCESSES[process](Parts(settings))


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

    app.worker_main(
        [
            "worker",
            "--beat",
            "--concurrency=1",
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


def _migrate(parts: Parts) -> None:
    from scheduler.store.engine import migrate

    migrate(parts.settings.database_url.get_secret_value())


def _bootstrap(parts: Parts) -> None:
    from scheduler.services.first_start import first_start

    first_start(parts)


_PROCESSES = {
    "bootstrap": _bootstrap,
    "api": _api,
    "worker": _worker,
    "recorder": _recorder,
    "migrate": _migrate,
}

if __name__ == "__main__":
    main()
