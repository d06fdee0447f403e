"""The specification of an attempt, which an executor gets with its claim."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from simherd.contract import limits
from simherd.contract.checkpoints import Checkpoints
from simherd.contract.notifications import Observer
from simherd.contract.typed_json import WrongJson, from_json, parse_object, to_json
from simherd.contract.upload_grant import Grant

_T = TypeVar("_T")

#: Version of the messages between scheduler and executor; incremented when their meaning changes.
PROTOCOL = 1


def attempt_key(task_id: str, attempt: int) -> str:
    """Return the name of an attempt in Redis, in labels and in the journal."""
    return f"{task_id}:{attempt}"


def parse_attempt(key: str) -> tuple[str, int]:
    """Return task id and attempt number of an attempt's name.
    Raises ValueError: `key` is not the name of an attempt."""
    task_id, _, number = key.partition(":")
    return task_id, int(number)


@dataclass(frozen=True)
class Command:
    """One command of a task: an argument list, never a shell line."""

    argv: tuple[str, ...]
    prompts: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    #: Whether it is an `mpirun`, which starts ranks on all machines of the MPI group.
    mpi: bool = False


@dataclass(frozen=True)
class InputFile:
    """An object of the user's storage that is put among the inputs as `path`."""

    url: str
    path: str


@dataclass(frozen=True)
class DeadlineWarning:
    """The signal that warns a simulation of its deadline, and how long before, seconds."""

    signal: str = limits.WARN_SIGNAL
    before_s: float = limits.WARN_BEFORE_S


@dataclass(frozen=True)
class AttemptSpec:
    """One attempt of a task, as its executor sees it.

    The URLs are signed for this attempt alone; `grant` lets it store outputs in parts.
    `time_to_live_s` counts from the start of the task's first computation; None means no limit.
    `deadline_at` (seconds since the epoch) is set when an earlier attempt has begun to compute:
    a lost machine does not prolong a task. `seconds_for_money` counts from the attempt's start, for
    a task that has the whole machine: one of n slots lasts n times as long; None means no limit.
    `run_dir` is the folder of the commands, relative to the task's work folder.
    """

    task_id: str
    attempt: int
    image: str
    commands: tuple[Command, ...]
    #: None: the task has no input archive.
    input_url: str | None
    output_put_url: str
    manifest_put_url: str
    grant: Grant
    env: dict[str, str] = field(default_factory=dict)
    run_dir: str = ""
    time_to_live_s: float | None = None
    deadline_at: float | None = None
    seconds_for_money: float | None = None
    #: When the machine group ends, seconds since the epoch.
    group_ends_at: float | None = None
    warning: DeadlineWarning = field(default_factory=DeadlineWarning)
    stop_grace_s: float = limits.STOP_GRACE_S
    network: bool = False
    input_files: tuple[InputFile, ...] = ()
    #: Archives that are unpacked before the task's input; of two files of one name the later stays.
    shared_inputs: tuple[str, ...] = ()
    compress: bool = True
    #: Seconds; 0 means never.
    stall_after_s: float = limits.STALL_AFTER_S
    checkpoints: Checkpoints | None = None
    #: Commands that replace `commands` after a restored checkpoint; empty: the same ones.
    restore: tuple[Command, ...] = ()
    #: Files to look for while the commands run.
    observers: tuple[Observer, ...] = ()
    #: Whether another attempt follows when the machine is lost.
    resubmit: bool = False
    #: Size of the task's input archive when the task was queued, bytes; None: unknown.
    input_bytes: int | None = None
    protocol: int = PROTOCOL

    @property
    def key(self) -> str:
        """Return the attempt's name."""
        return attempt_key(self.task_id, self.attempt)

    def encode(self) -> str:
        """Return the JSON that Redis carries."""
        return to_json(self)

    @classmethod
    def decode(cls, text: str) -> AttemptSpec:
        """Read what `encode` wrote.
        Raises WrongJson: it is not such a text, or of another protocol version."""
        return read_versioned(cls, text)


def read_versioned(kind: type[_T], text: str) -> _T:
    """Read a message between scheduler and executor.
    Raises WrongJson: it is not such a text, or of another protocol version."""
    raw = parse_object(text, kind.__name__)
    if raw.get("protocol") != PROTOCOL:
        raise WrongJson(f"protocol {raw.get('protocol')}; this release speaks {PROTOCOL}")
    return from_json(kind, raw)
