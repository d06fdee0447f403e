"""The Celery application: its settings and the whole beat table.

The settings are those that survived the measurements in the fault notes: a message that is
lost or doubled costs latency only, because every job reads its work from SQL.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from celery import Celery, signals
from celery.utils.log import get_multiprocessing_logger
from kombu.exceptions import OperationalError

from scheduler.config import Settings
from scheduler.domain.limits import MAIN_SERVER
from scheduler.services.control.sweep import SWEEP
from scheduler.wiring import Runtime

if TYPE_CHECKING:
    from typing import Any

log = logging.getLogger(__name__)

#: Seconds after which an unacknowledged message is delivered again.
_VISIBILITY_S = 600
#: Job → seconds between two of its runs.
_EVERY_S = {
    # Machines that are there although they were terminated.
    "end_again": 60.0,
    # Deliveries that are due, or of which a message was lost.
    "deliver": 15.0,
    # Fetches and exports whose message was lost, or that wait to be tried again.
    "transfer": 5.0,
    "forget_transfers": 3600.0,
}


class _Process:
    """What one worker process keeps from job to job."""

    runtime: Runtime | None = None
    started_at = time.time()


def runtime() -> Runtime:
    """This process' parts; made after the fork, for connections must not be shared."""
    if _Process.runtime is None:
        _Process.runtime = Runtime(Settings(), send)
    return _Process.runtime


def started_at() -> float:
    """When this worker was started."""
    return _Process.started_at


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _after_fork(**_: Any) -> None:
    _Process.runtime = None


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _before_exit(**_: Any) -> None:
    if _Process.runtime is not None:
        _Process.runtime.close()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _leave_the_log_alone(**_: Any) -> None:
    """Being here keeps Celery from setting up its own log: ours takes its lines as well."""
    get_multiprocessing_logger().propagate = True


def make_app() -> Celery:
    """The application as the environment configures it."""
    settings = Settings()
    app = Celery("simherd", include=["scheduler.jobs.tasks"])
    transport = {
        "visibility_timeout": _VISIBILITY_S,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "global_keyprefix": "cel:",
    }
    app.conf.update(
        broker_url=settings.broker_url.get_secret_value(),
        broker_transport_options=transport,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_time_limit=120,
        task_soft_time_limit=90,
        task_ignore_result=True,
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_max_tasks_per_child=500,
        worker_max_memory_per_child=300_000,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        beat_schedule={
            **{
                f"{SWEEP}:{server}": {
                    "task": SWEEP,
                    # The release before knew no other server.
                    "args": () if server == MAIN_SERVER else (server,),
                    "schedule": settings.sweep_s,
                    # A sweep that waited longer than this has been overtaken by the next one.
                    "options": {"expires": max(settings.sweep_s, 5)},
                }
                for server in settings.redis_urls
            },
            **{
                job: {"task": job, "schedule": every_s, "options": {"expires": every_s}}
                for job, every_s in _EVERY_S.items()
            },
        },
    )
    return app


app = make_app()


def send(name: str, *arguments: str) -> None:
    """Have the worker run the job `name`; the sweep makes up for a message that is lost."""
    try:
        app.send_task(name, args=arguments, retry=False)
    except (OperationalError, OSError) as error:
        log.warning("event=job_not_sent job=%s error=%s", name, error)
