"""The tables. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from scheduler.domain.limits import MAIN_SERVER
from simherd.contract import limits

#: SQLite gives rising numbers to INTEGER primary keys only; PostgreSQL has room for more.
SEQUENCE = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Parent of every table; constraints get the same names on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class User(Base):
    """An owner of tasks, groups and storage."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str]
    created_at: Mapped[float]
    #: Whether they may administer the server.
    is_operator: Mapped[bool] = mapped_column(default=False)
    #: Quota name → what the user may have at one time; one that is not named is unlimited.
    quotas: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    #: When one of their transfers last had a turn; 0 means never.
    transfer_turn_at: Mapped[float] = mapped_column(default=0.0)
    #: Since when none of their keys is valid.
    disabled_at: Mapped[float | None]
    #: The enabled providers with which they may start machines; None: all of them.
    providers: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))


class ApiKey(Base):
    """A user's key, stored as its SHA-256."""

    __tablename__ = "api_keys"
    digest: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    label: Mapped[str]
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]
    #: When it expires.
    expires_at: Mapped[float | None]


class ProjectRow(Base):
    """A named set of one user's tasks."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("user_id", "name"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    project_type: Mapped[str]
    created_at: Mapped[float]
    project_metadata: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)


class GroupRow(Base):
    """Machines of one kind that share a queue."""

    __tablename__ = "machine_groups"
    __table_args__ = (UniqueConstraint("user_id", "name"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str]
    wire_provider: Mapped[str]
    provider: Mapped[str]
    machine_type: Mapped[str]
    zone: Mapped[str]
    group_type: Mapped[str]
    is_elastic: Mapped[bool]
    spot: Mapped[bool]
    num_machines: Mapped[int]
    min_machines: Mapped[int]
    max_machines: Mapped[int]
    disk_size_gb: Mapped[int]
    threads_per_core: Mapped[int]
    vcpus: Mapped[int]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    price_hour: Mapped[float]
    status: Mapped[str] = mapped_column(index=True)
    max_idle_s: Mapped[float | None]
    auto_terminate_at: Mapped[float | None]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    terminated_at: Mapped[float | None]
    #: When its shutdown began.
    shutting_down_at: Mapped[float | None]
    #: Why the group is being shut down: a value of `Cause`.
    end_cause: Mapped[str | None]
    #: How long a silent machine keeps its attempts, seconds.
    reconnect_s: Mapped[float] = mapped_column(default=limits.RECONNECT_WINDOW_S)
    #: What its containers may do: the fields of `Policy`.
    policy: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    #: Whether an operator has opened it to every user of this server; see
    #: `services/groups/access.py`, which decides about access.
    shared: Mapped[bool] = mapped_column(default=False)
    #: Whether it is the default group; at most one is.
    is_default: Mapped[bool] = mapped_column(default=False)
    #: Whether on-demand machines are started while there is no spot capacity.
    on_demand_fallback: Mapped[bool] = mapped_column(default=False)
    #: What keeps its machines from coming or going, as a sentence.
    status_detail: Mapped[str | None]
    #: Launches that the provider refused one after another, and when the next one is due.
    refusals: Mapped[int] = mapped_column(default=0)
    #: Of these, the last ones whose reason was not a lack of capacity.
    hard_refusals: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[float | None]
    #: When an elastic group last changed its size.
    scaled_at: Mapped[float | None]
    #: The name of the Redis server that holds its queue.
    redis_server: Mapped[str] = mapped_column(default=MAIN_SERVER)
    #: Since when it is quarantined because its keys in Redis are broken, and the reason.
    quarantined_at: Mapped[float | None]
    quarantine_reason: Mapped[str | None]
    #: The last event-stream entry that the recorder has applied.
    event_cursor: Mapped[str] = mapped_column(default="0-0")


class GroupShare(Base):
    """A machine group that is shared with one user."""

    __tablename__ = "group_shares"
    group_id: Mapped[str] = mapped_column(ForeignKey("machine_groups.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    #: The name of the operator or owner who shared it.
    granted_by: Mapped[str]
    created_at: Mapped[float]
    #: Since when the user may use it; None: the offer is not accepted yet.
    accepted_at: Mapped[float | None]


class MachineRow(Base):
    """One machine of a group, with one executor on it."""

    __tablename__ = "machines"
    id: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("machine_groups.id"), index=True)
    name: Mapped[str]
    status: Mapped[str]
    #: The provider's reference to it.
    handle: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[float]
    #: When it was last launched; from then on its agent has limited time to join.
    launched_at: Mapped[float | None]
    last_seen_at: Mapped[float | None]
    terminated_at: Mapped[float | None]
    spot: Mapped[bool] = mapped_column(default=False)
    #: US$ per hour.
    price_hour: Mapped[float] = mapped_column(default=0.0)
    #: SHA-256 of the token with which it may join once, and until when.
    join_digest: Mapped[str | None] = mapped_column(index=True)
    join_expires_at: Mapped[float | None]
    #: SHA-256 of its secret: the password for Redis and for the API.
    secret_digest: Mapped[str | None]
    secret_at: Mapped[float | None]
    #: When the provider reclaims it, once that is announced.
    reclaim_at: Mapped[float | None]
    #: The last tasks in a row that failed because of the machine: ids and blanks.
    failures: Mapped[str] = mapped_column(default="")
    #: Why the scheduler drained it.
    drain_reason: Mapped[str | None]


class TaskRow(Base):
    """One simulation: its submission, its state, its measurements."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index("ix_tasks_user_seq", "user_id", "seq"),
        Index("ix_tasks_group_status_seq", "group_id", "status", "seq"),
        Index("ix_tasks_group_status_queued", "group_id", "status", "queued_at", "seq"),
        Index("ix_tasks_group_end", "group_id", "end_time"),
        Index("ix_tasks_project_seq", "project_id", "seq"),
        Index("ix_tasks_user_client_key", "user_id", "client_key", unique=True),
    )
    #: Submission order, which is also the order in the queue.
    seq: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    group_id: Mapped[str] = mapped_column(ForeignKey("machine_groups.id"))
    status: Mapped[str] = mapped_column(index=True)
    #: The fence: 0 before the first queueing, raised whenever an attempt is queued.
    attempt: Mapped[int] = mapped_column(default=0)
    #: Of a task that was restored from a backup: the first number that no attempt can have had
    #: before, and how many attempts it had had; see `domain/attempt_numbers.py`.
    attempt_floor: Mapped[int] = mapped_column(default=0)
    attempts_before: Mapped[int] = mapped_column(default=0)
    #: Number of the current attempt's last recorded event.
    last_event: Mapped[int] = mapped_column(default=0)
    machine_id: Mapped[str | None]
    simulator: Mapped[str]
    simulator_alias: Mapped[str | None]
    container_image: Mapped[str]
    storage_prefix: Mapped[str]
    time_to_live_s: Mapped[float | None]
    #: When the time-to-live runs out; known from the first computation's start on.
    deadline_at: Mapped[float | None]
    resubmit: Mapped[bool]
    #: Set by a kill with `discard`.
    discard_outputs: Mapped[bool] = mapped_column(default=False)
    stream_zip: Mapped[bool]
    compress_with: Mapped[str]
    extra_params: Mapped[dict[str, Any]] = mapped_column(JSON)
    input_resources: Mapped[list[str]] = mapped_column(JSON)
    #: Archives that are unpacked before its input.
    shared_inputs: Mapped[list[str]] = mapped_column(JSON, default=list)
    #: Whether it has an input archive.
    has_input: Mapped[bool] = mapped_column(default=True)
    task_metadata: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    #: The client's key for the submission, and a digest of the request.
    client_key: Mapped[str | None]
    client_digest: Mapped[str | None]
    #: Higher ones go first within a group.
    priority: Mapped[int] = mapped_column(default=0)
    #: The most that its machines may cost in all, US$.
    max_cost: Mapped[float | None]
    metrics: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    executer: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    #: The machines that were lost while they held the task: attempt, machine_id, at, detail.
    losses: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    cause: Mapped[str | None]
    error_detail: Mapped[str | None]
    exit_code: Mapped[int | None]
    create_time: Mapped[float]
    input_submit_time: Mapped[float | None]
    start_time: Mapped[float | None]
    computation_start_time: Mapped[float | None]
    computation_end_time: Mapped[float | None]
    end_time: Mapped[float | None]
    #: When this attempt was first pushed to Redis, and when last: its signed URLs age from then.
    queued_at: Mapped[float | None]
    handed_over_at: Mapped[float | None]
    #: Whether notifications were ever registered for it: if not, changes skip the search for them.
    watched: Mapped[bool] = mapped_column(default=False)


class StatusChange(Base):
    """One row of a task's history. Rows are added, never changed but for `ended_at`."""

    __tablename__ = "status_changes"
    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), index=True)
    attempt: Mapped[int]
    status: Mapped[str]
    at: Mapped[float]
    ended_at: Mapped[float | None]
    description: Mapped[str]
    machine_id: Mapped[str | None]


class AttemptRow(Base):
    """One attempt of a task: where it ran, how it ended, what was stored, what it cost."""

    __tablename__ = "attempts"
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    machine_id: Mapped[str | None] = mapped_column(index=True)
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
    cause: Mapped[str | None]
    detail: Mapped[str | None]
    #: What is stored of it: `generation` of a checkpoint it saved, `output_bytes`.
    saved: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    #: US$ per hour of its share of the machine.
    price_hour: Mapped[float] = mapped_column(default=0.0)


class Checkpoint(Base):
    """One generation of a task's checkpoint: files that a later attempt can restore."""

    __tablename__ = "checkpoints"
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    at: Mapped[float]
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: The fields of `SavedFile`, each.
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSON)


class TaskOperation(Base):
    """A timed stage of an attempt, shown under the status during which it ran."""

    __tablename__ = "task_operations"
    __table_args__ = (UniqueConstraint("task_id", "attempt", "number"),)
    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    attempt: Mapped[int]
    #: The executor's number for it within the attempt.
    number: Mapped[int]
    status_change_id: Mapped[int] = mapped_column(ForeignKey("status_changes.id"))
    name: Mapped[str]
    status: Mapped[str]
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON)


class UsageSample(Base):
    """What an attempt's commands used at one moment; counters count from the attempt's start."""

    __tablename__ = "usage_samples"
    __table_args__ = (Index("ix_usage_samples_task_at", "task_id", "at"),)
    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    attempt: Mapped[int]
    at: Mapped[float]
    cpu_seconds: Mapped[float]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    processes: Mapped[int]
    read_bytes: Mapped[int] = mapped_column(BigInteger)
    written_bytes: Mapped[int] = mapped_column(BigInteger)
    disk_bytes: Mapped[int] = mapped_column(BigInteger)


class TransferRow(Base):
    """A file that is fetched from a URL, or exported to others, turn by turn."""

    __tablename__ = "transfers"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    #: A `TransferKind` and a `TransferState`.
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)
    #: The object that is created or read.
    path: Mapped[str]
    #: The source; of an export, the URL that completes the upload.
    url: Mapped[str]
    #: Where the parts of an export go, and how large each is, bytes.
    part_urls: Mapped[list[str]] = mapped_column(JSON, default=list)
    part_size: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float]
    ended_at: Mapped[float | None]
    #: The last error; also shown while it is tried again.
    error: Mapped[str | None]
    #: The fence: incremented with every turn.
    turn: Mapped[int] = mapped_column(default=0)
    #: When the next turn is due; during one, when it counts as dead.
    next_at: Mapped[float]
    #: Turns in a row without progress.
    failures: Mapped[int] = mapped_column(default=0)
    #: The total bytes, once known, and those that are stored.
    size: Mapped[int | None] = mapped_column(BigInteger)
    moved: Mapped[int] = mapped_column(BigInteger, default=0)
    #: Of a fetch: the upload in parts that it is stored with.
    upload: Mapped[str | None]
    #: The parts that are stored: number and ETag, each.
    parts: Mapped[list[Any]] = mapped_column(JSON, default=list)
    #: ETag or date that shows whether the source has changed.
    validator: Mapped[str | None]


class StorageRoom(Base):
    """Bytes of a user's storage that a listing may lack: reserved by a signed URL, being stored, or
    stored since."""

    __tablename__ = "storage_rooms"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    #: The object that they are for.
    path: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: Whether only a URL was signed so far: its upload replaces this row.
    promised: Mapped[bool]
    #: When they stop counting, unless they were stored by then.
    expires_at: Mapped[float]
    #: When all of them were stored.
    stored_at: Mapped[float | None]


class RefusedChange(Base):
    """A status change that was illegal or stale: counted, never applied."""

    __tablename__ = "refused_changes"
    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(index=True)
    attempt: Mapped[int]
    status: Mapped[str]
    at: Mapped[float]


class LeadershipRow(Base):
    """A duty that one of several processes has at a time, with its holder and expiry."""

    __tablename__ = "duties"
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    until: Mapped[float]
