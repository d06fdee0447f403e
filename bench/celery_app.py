"""The Celery application that is measured beside Simherd: late acknowledgement, no results."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


@app.task  # type: ignore[untyped-decorator]
def run(argv: list[str], span: str | None = None) -> None:
    """Run a command; write down when it began and ended where `span` says."""
    began = time.time()
    subprocess.run(argv, check=True)
    if span:
        Path(span).write_text(f"{began} {time.time()}")
