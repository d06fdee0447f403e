"""The log of a scheduler process, see `simherd.runtime.logs`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from simherd.runtime import logs

if TYPE_CHECKING:
    from simherd.runtime.logs import LogFormat


def configure_logging(process: str, level: str, style: LogFormat) -> None:
    """Log to standard error at `level`."""
    logs.configure_logging(process, level, style, "%(asctime)s %(levelname)s %(name)s %(message)s")
    # One line a request and job says nothing that our own lines do not.
    celery = (
        "kombu",
        "celery.worker.strategy",
        "celery.app.trace",
        "celery.beat",
        "multiprocessing",
    )
    for noisy in ("httpx", "aioice", *celery):
        logging.getLogger(noisy).setLevel(logging.WARNING)
