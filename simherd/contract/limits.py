"""Every default and bound that more than one part relies on, typed once."""

from __future__ import annotations

#: Seconds between two heartbeats of an executor; each renews all of its leases.
HEARTBEAT_S = 5.0
#: Seconds a lease lasts without a heartbeat; then its machine is suspect.
LEASE_S = 20.0
#: Seconds a suspect machine whose state is unknown keeps its attempts (per group).
RECONNECT_WINDOW_S = 600.0
#: Seconds a revoked lease is remembered, so that its holder gets the reply `lost`.
TOMBSTONE_S = 7 * 86400
#: Seconds between SIGTERM and SIGKILL when a simulation is stopped.
STOP_GRACE_S = 30.0
#: Seconds an agent that was asked to stop has for ending its work.
AGENT_STOP_S = 10.0
#: Seconds a signed URL handed to a user stays good.
USER_URL_S = 3600
#: Longest time-to-live of a task, seconds (one year).
MAX_TTL_S = 366 * 86400
#: Signal and time, seconds, by which a simulation is warned before its deadline.
WARN_SIGNAL = "SIGUSR1"
WARN_BEFORE_S = 60.0
#: The most tasks that one request submits, and its largest body, bytes.
MAX_BATCH = 1000
#: Paths that are signed in one request: the published client asks for a whole folder at once.
MAX_SIGNED_PATHS = 10_000
#: Largest part of an export, bytes: what a turn has time for.
MAX_EXPORT_PART_BYTES = 512 * 1024**2
#: Frames of such an answer that may wait for their reader.
LIVE_WINDOW = 16
#: Bytes of text that one frame carries at the most.
LIVE_TEXT_BYTES = 64 * 1024
#: Bytes before the end of a file from which its last lines are taken, and by which somebody who
#: follows it may be behind: a log of gigabytes does not flow through Redis.
LIVE_BACKLOG_BYTES = 1024**2
#: The most lines that may be asked for.
LIVE_MAX_LINES = 100_000
#: The most files that may be followed at once.
LIVE_MAX_FILES = 32
#: Entries that a list of files has at the most.
LIVE_MAX_ENTRIES = 10_000
#: Bytes of each slice in which a file goes through object storage, and how many may lie there.
LIVE_SLICE_BYTES = 8 * 1024**2
#: Tasks that can be waited for over one connection.
MAX_WAITED = 10_000
#: Seconds without output and CPU time after which a simulation is said to stall.
STALL_AFTER_S = 1800.0
#: The machine group that `simherd up` starts and makes the default of tasks that name none.
DEFAULT_GROUP = "local"
#: The port of the API, unless another is set.
API_PORT = 8000
#: Seconds without a sign of life after which a process is taken to hang: longer than any call that
#: ends by itself takes, retries included.
SILENT_PROCESS_S = 180.0
