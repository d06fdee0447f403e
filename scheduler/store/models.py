"""The tables. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

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
    """Somebody who owns tasks, groups and storage."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str]
    created_at: Mapped[float]
    #: Whether they may look after the server itself.
    is_operator: Mapped[bool] = mapped_column(default=False)
    #: Quota name → what the user may have at one time; one that is not named is unlimited.
    quotas: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    #: When one of their fetches or exports was last given a turn; 0 is never.
    transfer_turn_at: Mapped[float] = mapped_column(default=0.0)
    #: Since when none of their keys is good.
    disabled_at: Mapped[float | None]
    #: The providers that they may start machines with, of those that are on; None: all of them.
    providers: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))


class ApiKey(Base):
    """A user's key, stored as its SHA-256."""

    __tablename__ = "api_keys"
    digest: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    label: Mapped[str]
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]
    #: When it stops being good by itself.
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
    #: When its shutting down began.
    shutting_down_at: Mapped[float | None]
    #: Why the group is being shut down: a value of `Cause`.
    end_cause: Mapped[str | None]
    #: How long a silent machine keeps its attempts, seconds.
    reconnect_s: Mapped[float] = mapped_column(default=limits.RECONNECT_WINDOW_S)
    #: What its containers may do: the fields of `Policy`.
    policy: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    #: Whether an operator has let every user of this server send tasks to it; see
    #: `services/groups/access.py`, which decides who may.
    shared: Mapped[bool] = mapped_column(default=False)
    #: Whether tasks go to it that name no group; of one group at the most.
    is_default: Mapped[bool] = mapped_column(default=False)
    #: Whether machines come on demand while there is no spot capacity.
    on_demand_fallback: Mapped[bool] = mapped_column(default=False)
    #: What keeps its machines from coming or going, as a sentence.
    status_detail: Mapped[str | None]
    #: Launches that the provider refused one after another, and when the next one is due.
    refusals: Mapped[int] = mapped_column(default=0)
    #: Of these, the last ones that were not for want of capacity.
    hard_refusals: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[float | None]
    #: When an elastic group last changed its size.
    scaled_at: Mapped[float | None]
    #: The name of the Redis server that holds its queue.
    redis_server: Mapped[str] = mapped_column(default=limits.MAIN_SERVER)
    #: Since when its keys in Redis are set aside because they are broken, and how they are.
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
    #: Since when the user may use it; None: it is an offer that they have not accepted.
    accepted_at: Mapped[float | None]


class MachineRow(Base):
    """One machine of a group, with one executor on it."""

    __tablename__ = "machines"
    id: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(ForeignKey("machine_groups.id"), index=True)
    name: Mapped[str]
    status: Mapped[str]
    #: What the provider needs to find it again.
    handle: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[float]
    #: When it was last launched; its agent has a while from then for joining.
    launched_at: Mapped[float | None]
    last_seen_at: Mapped[float | None]
    terminated_at: Mapped[float | None]
    spot: Mapped[bool] = mapped_column(default=False)
    #: US$ per hour.
    price_hour: Mapped[float] = mapped_column(default=0.0)
    #: SHA-256 of the token with which it may join once, and until when.
    join_digest: Mapped[str | None] = mapped_column(index=True)
    join_expires_at: Mapped[float | None]
    #: SHA-256 of its secret: the password of its Redis user, and what it shows the API.
    secret_digest: Mapped[str | None]
    secret_at: Mapped[float | None]
    #: When the provider takes it away, where it has said so.
    reclaim_at: Mapped[float | None]
    #: The tasks that failed here one after another for the machine's own reasons: ids and blanks.
    failures: Mapped[str] = mapped_column(default="")
    #: Why it takes nothing more, where that was decided for it.
    drain_reason: Mapped[str | None]


class TaskRow(Base):
    """One simulation: what was asked for, where it stands, what it measured."""

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
    #: Set by a kill whose user does not want the outputs.
    discard_outputs: Mapped[bool] = mapped_column(default=False)
    stream_zip: Mapped[bool]
    compress_with: Mapped[str]
    extra_params: Mapped[dict[str, Any]] = mapped_column(JSON)
    input_resources: Mapped[list[str]] = mapped_column(JSON)
    #: Archives that are laid out below its own input.
    shared_inputs: Mapped[list[str]] = mapped_column(JSON, default=list)
    #: Whether it has an input archive of its own.
    has_input: Mapped[bool] = mapped_column(default=True)
    task_metadata: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    #: What the client calls its submission, and a digest of what was asked for.
    client_key: Mapped[str | None]
    client_digest: Mapped[str | None]
    #: Higher ones go first within a group.
    priority: Mapped[int] = mapped_column(default=0)
    #: US$ that its machines may cost in all.
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
    #: When Redis was first handed this attempt, and when last: its signed URLs age from there.
    queued_at: Mapped[float | None]
    handed_over_at: Mapped[float | None]
    #: Whether events were ever registered for it: who changes it need not look for any else.
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
    """One attempt of a task: where it ran, how it ended, what was saved, what it cost."""

    __tablename__ = "attempts"
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    machine_id: Mapped[str | None] = mapped_column(index=True)
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
    cause: Mapped[str | None]
    detail: Mapped[str | None]
    #: What of it is stored: `generation` of a checkpoint it saved, `output_bytes`.
    saved: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    #: US$ per hour of the machine's share that it took up.
    price_hour: Mapped[float] = mapped_column(default=0.0)


class Checkpoint(Base):
    """One generation of a task's checkpoint: files that a later attempt can go on from."""

    __tablename__ = "checkpoints"
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    at: Mapped[float]
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: The fields of `SavedFile`, each.
    files: Mapped[list[dict[str, Any]]] = mapped_column(JSON)


class TaskOperation(Base):
    """A timed stage of an attempt, shown under the status it happened in."""

    __tablename__ = "task_operations"
    __table_args__ = (UniqueConstraint("task_id", "attempt", "number"),)
    id: Mapped[int] = mapped_column(SEQUENCE, primary_key=True, autoincrement=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    attempt: Mapped[int]
    #: The executor's own number for it within the attempt.
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
    #: A `Kind` and a `State` of `simherd.contract.transfers`.
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)
    #: The object: what is made, or what is read.
    path: Mapped[str]
    #: Where its bytes come from; of an export, what says that all parts are there.
    url: Mapped[str]
    #: Where the parts of an export go, and how large each is, bytes.
    part_urls: Mapped[list[str]] = mapped_column(JSON, default=list)
    part_size: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float]
    ended_at: Mapped[float | None]
    #: What went wrong last; shown while it is tried again, too.
    error: Mapped[str | None]
    #: The fence: raised with every turn.
    turn: Mapped[int] = mapped_column(default=0)
    #: When the next turn is due; during one, when it is taken to have died.
    next_at: Mapped[float]
    #: Turns in a row that brought nothing.
    failures: Mapped[int] = mapped_column(default=0)
    #: Bytes of all, once known, and those that are there.
    size: Mapped[int | None] = mapped_column(BigInteger)
    moved: Mapped[int] = mapped_column(BigInteger, default=0)
    #: Of a fetch: the upload in parts that it is stored with.
    upload: Mapped[str | None]
    #: The parts that are stored: number and ETag, each.
    parts: Mapped[list[Any]] = mapped_column(JSON, default=list)
    #: ETag or date by which the source is known to be still the same.
    validator: Mapped[str | None]


class StorageRoom(Base):
    """Bytes of a user's storage that a listing of it may not have seen: promised to who has a URL,
    being stored, or stored since."""

    __tablename__ = "storage_rooms"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    #: The object that they are for.
    path: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    #: Whether only a URL was signed so far: the upload that uses it takes its place.
    promised: Mapped[bool]
    #: When they stop counting, where they have not been stored by then.
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
    """What one process of several does at a time, and who does it until when."""

    __tablename__ = "duties"
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    until: Mapped[float]
