"""Every default and bound that more than one part relies on, typed once."""

from __future__ import annotations

#: Seconds between two heartbeats of an executor; each renews all of its leases.
HEARTBEAT_S = 5.0
#: Seconds a lease lasts without a heartbeat; then its machine is suspect.
LEASE_S = 20.0
#: Seconds a suspect machine whose state is unknown keeps its attempts (per group).
RECONNECT_WINDOW_S = 600.0
#: Seconds after the start of Redis or the scheduler in which nobody is declared lost.
GRACE_AFTER_START_S = 30.0
#: Share of a group's leases which, overdue together, makes the sweep hold: it is probably us.
MASS_LOSS_SHARE = 0.5
#: Leases below which the brake above does not apply: one machine of two may well be gone.
MASS_LOSS_MINIMUM = 8
#: Seconds an idle executor waits on the bell before it looks at the queue all the same.
BELL_WAIT_S = 20
#: Bell entries kept at the most: more than there are idle slots wakes nobody further.
BELL_MAX = 1024
#: How often a waiting attempt may be overtaken by one whose inputs a machine has fetched ahead.
MAX_OVERTAKEN = 4
#: How many of the first in the queue may be fetched ahead.
STAGE_WINDOW = 64
#: Seconds for which an attempt is marked as being fetched ahead; renewed by each heartbeat.
STAGED_S = 30.0
#: Seconds for which a machine that works together with others is known to be free; renewed with
#: every try to claim, each `HEARTBEAT_S`.
READY_S = 12.0
#: Seconds for which a join token is good, and in which a launched machine must have joined.
JOIN_S = 900.0
#: Seconds after which a machine changes its secret.
SECRET_S = 86400.0
#: Seconds between two generations of a checkpoint, where the task does not say.
CHECKPOINT_EVERY_S = 600.0
#: Seconds before a group's time limit at which its tasks are stopped, so that what they have put
#: out can be stored.
GROUP_END_AHEAD_S = 30.0
#: Seconds a revoked lease is remembered, so that its holder is told `lost`.
TOMBSTONE_S = 7 * 86400
#: Seconds between SIGTERM and SIGKILL when a simulation is stopped.
STOP_GRACE_S = 30.0
#: The longest such time that a task may ask for.
MAX_STOP_GRACE_S = 3600.0
#: Seconds an agent that was asked to stop has for ending its work.
AGENT_STOP_S = 10.0
#: Attempts a task gets when its machines are lost one after another.
MAX_ATTEMPTS = 20
#: Machines that a task may lose before it is taken to be what brings them down.
MAX_LOSSES = 3
#: Different tasks in a row that must fail through a machine's own fault for it to be drained.
BAD_MACHINE_FAILURES = 3
#: Seconds a signed URL handed to an executor stays good; S3 allows 7 days at the most.
EXECUTOR_URL_S = 7 * 86400
#: Seconds after which the reconciler renews the URLs of an attempt that still waits.
SPEC_REFRESH_S = 86400
#: Seconds a signed URL handed to a user stays good.
USER_URL_S = 3600
#: Longest time-to-live of a task, seconds (one year).
MAX_TTL_S = 366 * 86400
#: Signal and time, seconds, by which a simulation is warned before its deadline.
WARN_SIGNAL = "SIGUSR1"
WARN_BEFORE_S = 60.0
#: Signals that a task may ask for instead: those that a program can handle.
WARN_SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT", "SIGTERM")
#: Seconds past its deadline after which the scheduler itself ends a task that still computes:
#: its executor had the grace period, and then some for telling.
DEADLINE_BACKSTOP_S = STOP_GRACE_S + 60
#: Largest JSON request body, bytes.
MAX_BODY_BYTES = 1024 * 1024
#: Largest one that lists a checkpoint's files, bytes.
MAX_CHECKPOINT_BODY_BYTES = 16 * 1024 * 1024
#: The most tasks that one request submits, and its largest body, bytes.
MAX_BATCH = 1000
MAX_BATCH_BODY_BYTES = 16 * 1024 * 1024
#: Longest text of a task's metadata, characters.
METADATA_CHARACTERS = 1024
#: Largest one that lists the part URLs of an export, bytes: 10,000 parts, with signatures.
MAX_EXPORT_BODY_BYTES = 32 * 1024 * 1024
#: How deep the values of a JSON body may be nested: ours need 6, and readers that call themselves
#: for each level run out of stack at some hundred.
MAX_JSON_DEPTH = 32
#: Values in a JSON body: the longest lists, of a checkpoint's files, have 50,000 with their fields;
#: a megabyte of empty lists takes 20 of memory.
MAX_JSON_VALUES = 500_000
#: The integers that every part can keep: SQL's BIGINT.
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1
#: Longest parameter of a path, query or header with its name, characters: a webhook's URL is the
#: longest that is needed, percent-encoded.
MAX_PARAMETER_CHARACTERS = 8192
#: The last page of a list that can be asked for: with the largest page it is far from 2^63.
MAX_PAGE = 1_000_000
#: Paths that are signed in one request: the published client asks for a whole folder at once.
MAX_SIGNED_PATHS = 10_000
#: Values of a filter that is given more than once.
MAX_FILTER_VALUES = 100
#: The last moment that a time in a request may name, seconds since the epoch: 9999-12-31.
MAX_INSTANT = 253_402_300_799
#: Longest text of a name, of a file's path in a machine's folder, and of a URL, characters.
MAX_NAME_CHARACTERS = 128
#: Names of machine groups: labels of host names (RFC 1123), since machines are named after them.
GROUP_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
MAX_FILE_PATH_CHARACTERS = 4096
MAX_URL_CHARACTERS = 8192
#: Entries of metadata of a task or a project, and of a task's free parameters.
MAX_METADATA_ENTRIES = 1000
#: The longest time for which a key can be made, seconds (100 years).
MAX_KEY_S = 100 * 366 * 86400
#: Longest e-mail address, characters (RFC 5321, 4.5.3.1).
MAX_EMAIL_CHARACTERS = 320
#: US$, and what else an amount in a request may be at the most.
MAX_AMOUNT = 1e12
#: Largest body of a request that shows no key: a machine's join token and digest, bytes.
MAX_OPEN_BODY_BYTES = 4096
#: Longest API key, characters: made ones have 46.
MAX_KEY_CHARACTERS = 256
#: Bytes of JSON bodies in the memory of one API process, of all users and of one, who may send the
#: largest. Parsed they take several times as much.
BODIES_BYTES = 64 * 1024**2
BODIES_OF_ONE_BYTES = 40 * 1024**2
#: Requests of strangers that are looked into at one time, by an API process.
STRANGERS = 64
#: Seconds' worth of requests that a user may send at once.
REQUESTS_BURST_S = 25.0
#: Seconds in which a body must have come, without the time that the server itself takes.
BODY_TOTAL_S = 60.0
#: Bytes per second, on the average after the first `BODY_TOTAL_S`, at which a file must come.
LEAST_BYTES_PER_S = 1024
#: Uploads through an API process into a storage that takes parts, such as S3; one user has half of
#: them at the most. Each holds a part in memory, twice while it is stored (`uploads.part_size`).
UPLOADS_IN_PARTS = 32
#: Seconds and bytes of a refused request's body that are read and forgotten, so that its client
#: sees why it was refused.
LINGER_S = 1.0
LINGER_BYTES = 256 * 1024
#: Largest head of a request, bytes: the published client asks in one request line for signed URLs
#: for all files of a folder, about 100 bytes for each of 10,000. Those that are not complete may
#: have so many bytes together.
MAX_HEAD_BYTES = 1024**2
INCOMPLETE_HEADS_BYTES = 16 * 1024**2
#: Header fields of a request: clients and proxies send some 20. A field of three bytes takes some
#: hundred times as much memory once it is parsed.
MAX_HEAD_FIELDS = 128
#: Parameters of a URL's query: a path for each file of a folder, and some others.
MAX_QUERY_PARAMETERS = MAX_SIGNED_PATHS + 100
#: Requests of one user that one API process works on in threads at the same time (of 40 threads, as
#: many as AnyIO has), and how many more wait for their turn, without a thread.
USER_THREADS = 12
USER_WAITING_REQUESTS = 500
#: Connections of an API process: all, and those that wait for a request.
MAX_CONNECTIONS = 4096
MAX_WAITING_CONNECTIONS = 512
#: Seconds in which a client must have read something of what waits for it.
SLOW_READER_S = 60.0
#: Largest input archive, bytes.
MAX_INPUT_BYTES = 64 * 1024**3
#: Entries of a stored zip that the API lists, and bytes of its central directory (160 bytes an
#: entry, its name included). The largest takes 60 MB of memory and 2 s; 600,000 entries took 750 MB
#: and 90 s. Beyond it the archive can be downloaded only.
MAX_ZIP_ENTRIES = 100_000
MAX_ZIP_DIRECTORY_BYTES = 16 * 1024**2
#: Directories of stored zips that one API process reads at the same time.
ZIP_READERS = 2
#: Seconds for which a request waits, in its thread, until one of these readers is free.
ZIP_WAIT_S = 1.0
#: Largest file that is fetched from a URL into the storage, bytes.
MAX_FETCH_BYTES = 64 * 1024**3
#: Largest part of an export, bytes: what a turn has time for.
MAX_EXPORT_PART_BYTES = 512 * 1024**2
#: Fetches and exports of a user that have not ended, at one time.
MAX_OPEN_TRANSFERS = 100
#: Seconds for which a fetch or an export that has ended is still shown.
TRANSFER_KEPT_S = 7 * 86400
#: What stdout.txt and stderr.txt may each grow to, bytes.
LOG_LIMIT_BYTES = 256 * 1024**2
#: Seconds for which an answer about live files is kept for a reader who does not come back.
LIVE_KEEP_S = 30.0
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
#: Bytes of a whole answer that is gathered before it is passed on: the backlogs of all files that
#: may be asked for, once more for what JSON escapes.
LIVE_ANSWER_BYTES = 2 * LIVE_MAX_FILES * LIVE_BACKLOG_BYTES
#: Bytes of each slice in which a file goes through object storage, and how many may lie there.
LIVE_SLICE_BYTES = 8 * 1024**2
LIVE_SLICES = 2
#: Seconds after which an executor says that it still follows, where nothing is new, and after
#: which it is asked anew when it did not.
LIVE_ALIVE_S = 5.0
LIVE_SILENT_S = 20.0
#: Files of one machine that are fetched at one time.
LIVE_MAX_FETCHES = 2
#: Seconds in which an executor must begin to answer.
LIVE_ANSWER_S = 10.0
#: Bytes of a stored, compressed file that are unpacked to find its end.
SAVED_TAIL_BYTES = 2 * 1024**3
#: Connections over which one user follows or waits, to one API process.
MAX_STREAMS = 256
#: Threads of an API process for what an event loop must not wait for: SQL, storage.
API_THREADS = 64
#: Tasks that can be waited for over one connection.
MAX_WAITED = 10_000
#: Questions about live files that an executor works on at one time.
LIVE_MAX_REQUESTS = 64
#: Events that a user may have open at one time.
MAX_OPEN_EVENTS = 100
#: Longest pattern of an observer, characters, and the most groups in it.
MAX_REGEX_LENGTH = 512
MAX_REGEX_GROUPS = 32
#: Longest address of a webhook, characters.
MAX_WEBHOOK_URL = 2048
#: Seconds a webhook has for its answer, and the bytes of it that are read.
WEBHOOK_S = 5.0
WEBHOOK_ANSWER_BYTES = 64 * 1024
#: Seconds before a delivery that failed is tried again: of the first time, doubled each time, and
#: at the most. Each wait is a quarter shorter or longer by chance.
DELIVERY_FIRST_WAIT_S = 60.0
DELIVERY_LONGEST_WAIT_S = 4 * 3600.0
#: Tries of a delivery: with the waits above they take about a day.
DELIVERY_TRIES = 14
#: Seconds for which a mailbox of the WebRTC bridge is kept: a client takes some for its offer.
MAILBOX_KEEP_S = 60.0
#: Messages that wait in one: there is one answer to one offer.
MAILBOX_MESSAGES = 4
#: Seconds for which a client that asks for a message waits, unless it says otherwise, and the most.
MESSAGE_WAIT_S = 10.0
MAX_MESSAGE_WAIT_S = 60.0
#: WebRTC connections of one API process, and of one user with it: each has sockets and keys of its
#: own, and the published client makes one for each file that it follows.
BRIDGE_MAX_CONNECTIONS = 128
BRIDGE_MAX_PER_USER = 2 * LIVE_MAX_FILES
#: Seconds in which a connection must have been made and the client must have asked something.
BRIDGE_CONNECT_S = 30.0
#: Seconds for which a client that has its answer may keep the connection.
BRIDGE_LINGER_S = 10.0
#: Bytes that may wait in a connection for a client that reads slowly, besides one message.
BRIDGE_BUFFER_BYTES = 256 * 1024
#: Bytes of a message: what every WebRTC client takes (RFC 8841), and the most that is sent to one
#: that takes more.
BRIDGE_LEAST_MESSAGE_BYTES = 64 * 1024
BRIDGE_MESSAGE_BYTES = 256 * 1024
#: The longest offer, characters: each address in it is one that the API process sends packets to.
MAX_OFFER = 16 * 1024
#: Events an event stream keeps at the most (approximately); executors send again what is lost.
EVENTS_MAX = 100_000
#: Longest report of an executor, bytes: the largest holds the arguments of a command.
MAX_REPORT_BYTES = 256 * 1024
#: Longest frame of a live answer, bytes: what Redis takes at once, see `REDIS_BULK_BYTES`.
MAX_FRAME_BYTES = 4 * 1024**2
#: Longest JSON in which a machine describes itself, bytes.
MAX_FACTS_BYTES = 16 * 1024
#: Longest name of an attempt or a machine in Redis, characters.
MAX_REDIS_NAME = 128
#: Seconds by which a machine's clock may be ahead; a report of a later time is refused. Clocks of
#: machines that lost their time server were seen to be off by hours, not by days.
CLOCK_AHEAD_S = 86400.0
#: The earliest time that a report may carry, seconds since the epoch: the start of 2020.
EARLIEST_REPORT_S = 1_577_836_800.0
#: What the machines of a group may take of Redis: so much for the group, and so much for each of
#: its machines. The group's share holds a stream of `EVENTS_MAX` reports while nobody records.
GROUP_REDIS_BYTES = 96 * 1024**2
MACHINE_REDIS_BYTES = 4 * 1024**2
#: Bytes for each of its tasks that has not ended: a specification with its signed URLs.
TASK_REDIS_BYTES = 64 * 1024
#: Keys for a group, for each machine (its inbox, its live answers, its leases), and for each
#: attempt that was taken up in the last `TOMBSTONE_S`.
GROUP_REDIS_KEYS = 64
MACHINE_REDIS_KEYS = 256
ATTEMPT_REDIS_KEYS = 1
#: Leases, machines and other entries of one key that the scheduler reads at the most.
MAX_GROUP_ENTRIES = 100_000
#: Share of Redis' memory limit from which submissions are refused: what is left is for those who
#: work already.
REDIS_FULL_SHARE = 0.9
#: Share from which the sweep looks for who takes too much, at each turn and exactly.
REDIS_PRESSURE_SHARE = 0.6
#: Seconds between two looks at what a group takes, where there is no such need.
REDIS_USAGE_EVERY_S = 60.0
#: Longest single value that Redis takes from a client, and all of a command, bytes: what reads the
#: streams of machines is never sent more at once.
REDIS_BULK_BYTES = 4 * 1024**2
REDIS_QUERY_BYTES = 16 * 1024**2
#: What Redis keeps for a client that does not read its replies, bytes, before it ends the
#: connection; a quarter of that after ten seconds. The scheduler's largest reply is some 10 MiB.
REDIS_OUTPUT_BYTES = 64 * 1024**2
#: Connections of one machine to Redis: an agent has one for its inbox, its heartbeat, its reports,
#: its claims, its live answers, and what a pool adds.
MACHINE_REDIS_CONNECTIONS = 64
#: Processes a simulation may have at one time.
PIDS_LIMIT = 4096
#: Open files that a simulation's process may have.
OPEN_FILES = 65536
#: Size of a container's /tmp, bytes.
TMP_BYTES = 1024**3
#: Seconds without output and CPU time after which a simulation is said to stall.
STALL_AFTER_S = 1800.0
#: The longest such time that a task may ask for.
MAX_STALL_AFTER_S = 30 * 86400
#: Bytes of a machine's disks that tasks are never given, at the most.
DISK_RESERVE_BYTES = 5 * 1024**3
#: Size of a container's shared memory, bytes: MPI codes need more than Docker's 64 MB.
SHM_BYTES = 1024**3
#: The machine group that `simherd up` starts and makes the default of tasks that name none.
DEFAULT_GROUP = "local"
#: Machine groups that a user may have registered, started or not.
MAX_GROUPS = 500
#: Users whom the owner of a group may share it with; an operator shares with everyone.
MAX_GROUP_SHARES = 100
#: Quotas that a new user gets where `SIMHERD_DEFAULT_QUOTAS` does not say otherwise, by name. They
#: are for one person's daily work; an operator raises them for who needs more.
#: Machines: enough for a study in parallel, and a typing mistake does not fill a provider.
#: vCPUs: 16 for each of 16 machines.
#: US$ an hour: a group that is forgotten over a weekend costs some 1,200 US$ at the most.
#: Waiting tasks: ten of the largest batches; more than a queue of hours.
#: Storage, GiB: a share of a disk of 1 TB that leaves room for others.
DEFAULT_QUOTAS = {
    "max_price_hour": 20.0,
    "max_vcpus": 256.0,
    "max_instances": 32.0,
    "max_queued_tasks": 10_000.0,
    "max_storage_gb": 200.0,
}
#: Machines of the providers `local` and `docker` for each core of the host, and bytes of its memory
#: for each. An agent without work takes some 55 MiB; simulations share the cores, so that more
#: machines than this bring nothing but switches between them.
HOST_MACHINES_PER_CORE = 8
HOST_MACHINE_BYTES = 256 * 1024**2
#: Machines of these providers that every host may have, however small it is: what the tests and the
#: examples need.
LEAST_HOST_MACHINES = 16
#: Machines of all users together that other providers may have. EC2: launches and terminations of
#: so many stay within the rates of its API (token buckets of 100 requests and more). External ones
#: are started by hand: the most that one group may have.
DEFAULT_MAX_MACHINES = {"ec2": 100, "external": 1000}
#: Machines and US$ an hour above which `simherd resources start` asks: more than a workstation has
#: work for, and 240 US$ for a day that is forgotten.
ASK_ABOVE_MACHINES = 8
ASK_ABOVE_PRICE_HOUR = 10.0
#: Bytes by which room in a user's storage is taken for an upload whose length is not known, and the
#: share of what is left that such a step has at the most: uploads beside it need room, too.
ROOM_STEP_BYTES = 64 * 1024**2
ROOM_STEP_SHARE = 1 / 64
#: Seconds for which the room of an upload is kept without a sign of it: longer than any
#: pause that a connection survives. It is renewed while bytes arrive.
ROOM_KEPT_S = 3600.0
#: The name of the Redis server that a scheduler always has.
MAIN_SERVER = "main"
#: Characters of a deployment's signing key: as many as `openssl rand -hex 16` makes.
LEAST_SIGNING_KEY = 32
#: The port of the API, unless another is set.
API_PORT = 8000
#: Seconds without a sign of life after which a process is taken to hang: longer than any call that
#: ends by itself takes, retries included.
SILENT_PROCESS_S = 180.0
#: Seconds that what a process depends on has for an answer, and for which the answer is kept.
DEPENDENCY_S = 3.0
DEPENDENCY_KEPT_S = 1.0
