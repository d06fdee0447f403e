"""Every number that the scheduler's processes show to Prometheus.

`docs/metrics.md` is made from these tables. What is counted is counted where it happens, with
`instruments.py`; what is read from SQL and Redis is read when Prometheus asks, by `collectors.py`.
"""

from __future__ import annotations

from simherd.contract.cause import OUTCOMES
from simherd.contract.lifecycle import Status
from simherd.contract.operations import Operation
from simherd.runtime.metric_table import (
    CALL_BUCKETS,
    STAGE_BUCKETS,
    Measure,
    counter,
    gauge,
    histogram,
)

DEPENDENCY_UP = gauge(
    "simherd_dependency_up",
    "1 while the process reaches what it depends on (redis, database, storage, broker), else 0.",
    "dependency",
)
STORAGE_FREE = gauge(
    "simherd_storage_free_bytes", "Free space on the disk of the storage's folder; absent with S3."
)

HTTP_REQUESTS = counter(
    "simherd_http_requests_total", "Requests with a response.", "method", "route", "status"
)
HTTP_SECONDS = histogram(
    "simherd_http_response_seconds",
    "Time from a request to the beginning of its answer.",
    CALL_BUCKETS,
    "method",
    "route",
)

TASKS_ENDED = counter(
    "simherd_tasks_ended_total",
    "Tasks that ended, by final status and cause.",
    "status",
    "cause",
    begins=sorted({(outcome.status.value, cause.value) for cause, outcome in OUTCOMES.items()}),
)
ATTEMPTS_LOST = counter(
    "simherd_attempts_lost_total",
    "Attempts that ended for no fault of their task, by cause; another one may have followed.",
    "cause",
    begins=((cause.value,) for cause, outcome in OUTCOMES.items() if outcome.resubmit),
)
LEASES_EXPIRED = counter(
    "simherd_leases_expired_total",
    "Leases that the sweep ended: the holder was gone, silent for too long, or knew nothing of it.",
)
MASS_LOSSES_HELD = counter(
    "simherd_mass_losses_held_total",
    "Sweeps of a group that lost no silent machine because too many were silent at once.",
)
REFUSED_CHANGES = counter(
    "simherd_status_changes_refused_total",
    "Status changes that were illegal or stale, by the status that was wanted.",
    "status",
    begins=((status.value,) for status in Status),
)

REPORTS = counter(
    "simherd_reports_total",
    "Reports of executors that were read, by what became of them.",
    "verdict",
)
#: The kinds of `queue/dropped_input.py`: the keys that were read, and what was wrong with reports.
_INPUTS = (
    *("report", "protocol", "time", "foreign_report", "frame", "facts", "heartbeat", "lease"),
    *("lease_holder", "mpi_group", "queue", "leases", "machines", "gangs", "staged", "recorded"),
)
INPUTS_DROPPED = counter(
    "simherd_machine_inputs_dropped_total",
    "What machines wrote to Redis and the scheduler refused, by kind: it is logged once a group.",
    "kind",
    # An alert sees an increase only of what was there before.
    begins=((kind,) for kind in _INPUTS),
)
QUEUE_SECONDS = histogram(
    "simherd_queue_wait_seconds", "Time from an attempt's queueing to its claim.", STAGE_BUCKETS
)
STAGE_SECONDS = histogram(
    "simherd_stage_seconds",
    "How long the stages of attempts took, as executors reported.",
    STAGE_BUCKETS,
    "stage",
)
STAGES_FAILED = counter(
    "simherd_stages_failed_total",
    "Stages of attempts that failed, as executors reported.",
    "stage",
    begins=((operation.value,) for operation in Operation),
)
DOWNLOADED = counter(
    "simherd_inputs_downloaded_bytes_total", "Input archives that machines downloaded."
)
UPLOADED = counter("simherd_outputs_uploaded_bytes_total", "Output archives that were stored.")

JOBS = counter(
    "simherd_jobs_total",
    "Background jobs that ended: done, with an error, or aborted (too long, or their child died).",
    "name",
    "outcome",
)
JOB_SECONDS = histogram(
    "simherd_job_seconds", "How long background jobs took.", CALL_BUCKETS, "name"
)
JOB_SUCCESS = gauge(
    "simherd_job_last_success_timestamp_seconds",
    "When a background job last ended well, seconds since the epoch.",
    "name",
)
SWEPT = gauge(
    "simherd_sweep_last_success_timestamp_seconds",
    "When the groups on a Redis server were last looked at, seconds since the epoch.",
    "server",
)

STATE_AGE = gauge(
    "simherd_state_age_seconds",
    "How old the numbers below are; without them, since when they could not be read.",
)
QUEUE_LENGTH = gauge("simherd_queue_attempts", "Attempts that wait.", "group", "name")
OLDEST_WAIT = gauge(
    "simherd_queue_oldest_wait_seconds",
    "How long the next in line has waited, or the first of the lowest priority if that is longer.",
    "group",
    "name",
)
LEASES = gauge("simherd_leases", "Attempts that a machine holds.", "group", "name")
LEASES_OVERDUE = gauge(
    "simherd_leases_overdue", "Leases that were not renewed in time.", "group", "name"
)
TASKS = gauge("simherd_tasks", "Tasks that a machine has, by status.", "group", "name", "status")
DEADLINE_LEFT = gauge(
    "simherd_task_deadline_left_seconds",
    "Time until the first running task reaches its deadline; absent where none has one.",
    "group",
    "name",
)
MACHINES = gauge("simherd_machines", "Machines, by state.", "group", "name", "state")
SILENT_MACHINE = gauge(
    "simherd_machine_silent_seconds",
    "Time since the last heartbeat of the machine that has been silent for longest.",
    "group",
    "name",
)
COST = gauge(
    "simherd_machines_cost_dollars_per_hour",
    "What the machines that are there cost.",
    "group",
    "name",
)
GROUP_LEFT = gauge(
    "simherd_group_time_left_seconds",
    "Time until the group reaches its time limit; absent where it has none.",
    "group",
    "name",
)
REFUSALS = gauge(
    "simherd_group_launches_refused",
    "Launches that the provider has refused one after another.",
    "group",
    "name",
)
QUARANTINED = gauge(
    "simherd_group_quarantined",
    "1 while the group's keys in Redis are set aside because they are broken, else 0.",
    "group",
    "name",
)
REPORTS_WAITING = gauge(
    "simherd_recorder_waiting_reports",
    "Reports that are not recorded yet; some hundred too many at the most.",
    "group",
    "name",
)
RECORDER_LAG = gauge(
    "simherd_recorder_lag_seconds",
    "Age of the first report that is not recorded yet; 0 when all are.",
    "group",
    "name",
)
DELIVERIES = gauge("simherd_deliveries_waiting", "Webhooks and e-mails that are to be sent.")
DELIVERY_OVERDUE = gauge(
    "simherd_delivery_overdue_seconds",
    "For how long the first of them has been due; 0 when none is.",
)
REDIS_UP = gauge(
    "simherd_redis_up",
    "1 while the Redis server responds, else 0, without its contents.",
    "server",
)
REDIS_MEMORY = gauge("simherd_redis_memory_bytes", "Memory that Redis uses.", "server")
REDIS_MEMORY_LIMIT = gauge(
    "simherd_redis_memory_limit_bytes", "What it may use; 0 is all there is.", "server"
)
REDIS_AOF = gauge(
    "simherd_redis_aof_ok",
    "1 while Redis keeps its data on disk without an error, else 0.",
    "server",
)
REDIS_DATA_AGE = gauge(
    "simherd_redis_data_age_seconds",
    "Time since the scheduler last found Redis empty and filled it.",
    "server",
)
REDIS_CLOCK = gauge(
    "simherd_redis_clock_ahead_seconds",
    "By how much the clock of Redis is ahead of the recorder's.",
    "server",
)

#: Heading → rows, as the page has them. The first ones are of every process of the scheduler.
SECTIONS: dict[str, tuple[Measure, ...]] = {
    "Every process of the scheduler": (DEPENDENCY_UP, STORAGE_FREE),
    "API": (HTTP_REQUESTS, HTTP_SECONDS),
    "Wherever it happens (API, worker, recorder): add them up": (
        *(TASKS_ENDED, ATTEMPTS_LOST, LEASES_EXPIRED, MASS_LOSSES_HELD, REFUSED_CHANGES),
        INPUTS_DROPPED,
    ),
    "Recorder": (REPORTS, QUEUE_SECONDS, STAGE_SECONDS, STAGES_FAILED, DOWNLOADED, UPLOADED),
    "Worker": (JOBS, JOB_SECONDS, JOB_SUCCESS, SWEPT),
    "The deployment, from SQL and Redis, by each recorder: take the largest": (
        *(STATE_AGE, QUEUE_LENGTH, OLDEST_WAIT, LEASES, LEASES_OVERDUE, TASKS, DEADLINE_LEFT),
        *(MACHINES, SILENT_MACHINE, COST, GROUP_LEFT, REFUSALS, QUARANTINED, REPORTS_WAITING),
        RECORDER_LAG,
        *(DELIVERIES, DELIVERY_OVERDUE, REDIS_UP, REDIS_MEMORY, REDIS_MEMORY_LIMIT, REDIS_AOF),
        *(REDIS_DATA_AGE, REDIS_CLOCK),
    ),
}
_EVERY, *_COUNTED, STATE = SECTIONS.values()
#: What is counted where it happens, in whichever process that is.
COUNTED = tuple(row for rows in _COUNTED for row in rows)
