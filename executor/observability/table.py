"""The metrics of an agent for Prometheus; `docs/metrics.md` is made from this table.

Counters and histograms are updated where something happens, with `instruments.py`; gauges are read
when Prometheus asks, by `collectors.py`.
"""

from __future__ import annotations

from simherd.contract.cause import Cause
from simherd.runtime.metric_table import (
    CALL_BUCKETS,
    STAGE_BUCKETS,
    Measure,
    MetricKind,
    counter,
    gauge,
    histogram,
)

CLAIM_SECONDS = histogram(
    "simherd_executor_claim_seconds",
    "How long asking Redis for an attempt took, whether there was one or not.",
    CALL_BUCKETS,
)
CLAIMED = counter("simherd_executor_attempts_claimed_total", "Attempts that were claimed.")
ENDED = counter(
    "simherd_executor_attempts_ended_total",
    "Attempts that ended here, by cause.",
    "cause",
    begins=((cause.value,) for cause in Cause),
)
STAGE_SECONDS = histogram(
    "simherd_executor_stage_seconds",
    "How long the stages of attempts took, failed ones included.",
    STAGE_BUCKETS,
    "stage",
)
START_SECONDS = histogram(
    "simherd_executor_command_start_seconds",
    "How long it took to make a command's container and start it.",
    CALL_BUCKETS,
)
DOWNLOADED = counter(
    "simherd_executor_downloaded_bytes_total", "What was downloaded, tries that failed included."
)
UPLOADED = counter(
    "simherd_executor_uploaded_bytes_total", "What was uploaded, tries that failed included."
)
RETRIES = counter(
    "simherd_executor_transfer_retries_total", "Transfers that failed and were tried again."
)
BEATS_FAILED = counter("simherd_executor_heartbeats_failed_total", "Heartbeats that failed.")

DEPENDENCY_UP = gauge(
    "simherd_executor_dependency_up",
    "1 while the agent reaches what it depends on (redis, engine, room on its disk), else 0.",
    "dependency",
)
SLOTS = gauge("simherd_executor_slots", "Attempts that may compute at one time.")
SLOTS_BUSY = gauge("simherd_executor_slots_busy", "Attempts that compute.")
ATTEMPTS = gauge(
    "simherd_executor_attempts", "Attempts that are here, those included that only upload."
)
DRAINING = gauge("simherd_executor_draining", "1 when nothing more is claimed, else 0.")
DISK_FREE = gauge("simherd_executor_disk_free_bytes", "Free space on the disk for attempts.")
DISK_RESERVE = gauge("simherd_executor_disk_reserve_bytes", "What attempts never get of that disk.")
SILENT = gauge(
    "simherd_executor_contact_silent_seconds", "Time since Redis last responded to this machine."
)
GIVES_UP = gauge(
    "simherd_executor_contact_left_seconds",
    "Time until the agent stops its attempts, should Redis stay silent.",
)
JOURNALS = gauge(
    "simherd_executor_journal_attempts", "Attempts whose reports are not all recorded yet."
)
JOURNAL_REPORTS = gauge(
    "simherd_executor_journal_reports", "Reports that are not known to be recorded."
)
RECLAIM = gauge(
    "simherd_executor_reclaim_left_seconds",
    "Time until the provider takes the machine away; absent while it stays.",
)
NOTICES_SILENT = gauge(
    "simherd_executor_spot_source_silent_seconds",
    "Time since the source of spot notices last responded; absent where there is none.",
)
DEADLINE_LEFT = gauge(
    "simherd_executor_deadline_left_seconds",
    "Time until the first attempt here reaches a limit; absent where none has one.",
)

_ROWS = [row for row in tuple(globals().values()) if isinstance(row, Measure)]
#: What is updated where it happens.
COUNTED = tuple(row for row in _ROWS if row.kind is not MetricKind.GAUGE)
#: What is read when Prometheus asks.
STATE = tuple(row for row in _ROWS if row.kind is MetricKind.GAUGE)
