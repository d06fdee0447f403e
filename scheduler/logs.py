"""Log lines of every scheduler process: one line each, with a stable `event=` word."""

from __future__ import annotations

import logging


class _OneLine(logging.Formatter):
    """Keeps text from outside on its line: control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        head, newline, trace = text.partition("\nTraceback")
        clean = "".join(c if c.isprintable() else repr(c)[1:-1] for c in head)
        return clean + newline + trace


def set_up(level: str) -> None:
    """Log to standard error at `level`."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # One line a request and job says nothing that our own lines do not.
    celery = ("kombu", "celery.worker.strategy", "celery.app.trace", "celery.beat")
    for noisy in ("httpx", "aioice", *celery):
        logging.getLogger(noisy).setLevel(logging.WARNING)
