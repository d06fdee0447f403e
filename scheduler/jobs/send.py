"""Asking for a background job. A message that cannot be sent is made up for by the sweep."""

from __future__ import annotations

import logging

from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


def send(name: str, *arguments: str) -> None:
    """Have the worker run the job `name`."""
    from scheduler.jobs.app import app

    try:
        app.send_task(name, args=arguments, retry=False)
    except (OperationalError, OSError) as error:
        log.warning("event=job_not_sent job=%s error=%s", name, error)
