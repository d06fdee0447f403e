"""Paths of a task's objects in its user's storage, and names inside its archives."""

from __future__ import annotations

import re

#: Folder inside input.zip that holds the simulation's inputs.
INPUT_ROOT = "sim_dir"
#: Folder inside output.zip that holds the outputs.
OUTPUT_ROOT = "artifacts"
STDOUT = "stdout.txt"
STDERR = "stderr.txt"
#: The time series of the commands' usage, among the outputs.
SYSTEM_METRICS = "system_metrics.csv"
#: The value of the field `compress_with` that turns compression off.
UNCOMPRESSED = "NONE"
#: Start of the line that separates the outputs of two commands.
COMMAND_MARK = "# COMMAND: "
#: Characters that paths must not have: controls, backslashes, surrogates.
_REFUSED = re.compile("[\x00-\x1f\x7f\\\\\ud800-\udfff]")


def normalise(path: str) -> str:
    """Return a storage path without empty segments.
    Raises ValueError: it is empty, too long, or has `..` or control characters."""
    parts = [p for p in path.split("/") if p]
    if not parts:
        raise ValueError("the path is empty")
    if any(p in {".", ".."} for p in parts):
        raise ValueError(f"the path {path!r} has a '.' or '..' segment")
    if _REFUSED.search(path):
        raise ValueError(f"the path {path!r} has a control character or a backslash")
    clean = "/".join(parts)
    if len(clean.encode(errors="surrogateescape")) > 900:
        raise ValueError("the path is longer than 900 bytes")
    if any(len(p.encode(errors="surrogateescape")) > 255 for p in parts):
        raise ValueError("the path has a name of more than 255 bytes, the most that disks take")
    return clean


def task_dir(prefix: str, task_id: str) -> str:
    """Return the folder of a task in its user's storage."""
    return normalise(f"{prefix}/{task_id}")


def input_path(prefix: str, task_id: str) -> str:
    """Return the input archive of a task."""
    return f"{task_dir(prefix, task_id)}/input.zip"


#: Name of a task's output archive.
OUTPUT_ARCHIVE = "output.zip"


def output_path(prefix: str, task_id: str, attempt: int) -> str:
    """Return the output archive of one attempt: attempts never overwrite each other."""
    return f"{task_dir(prefix, task_id)}/attempts/{attempt}/{OUTPUT_ARCHIVE}"


def manifest_path(prefix: str, task_id: str, attempt: int) -> str:
    """Return the listing of that archive: one JSON object a line."""
    return f"{task_dir(prefix, task_id)}/attempts/{attempt}/manifest.jsonl"


#: Names by which an executor stores objects of an attempt: these two, a checkpoint's file by its
#: SHA-256, or a slice of a live file by request and number.
OUTPUT, MANIFEST = "output", "manifest"
CHECKPOINT_FILE = "checkpoint/"
LIVE_SLICE = "live/"


def checkpoint_dir(prefix: str, task_id: str) -> str:
    """Return the folder of a task's checkpoints: files under the SHA-256 of their content."""
    return f"{task_dir(prefix, task_id)}/checkpoints"


def live_slice_path(prefix: str, task_id: str, attempt: int, name: str) -> str:
    """Return a slice of a file of a running attempt; `name` begins with LIVE_SLICE."""
    return f"{task_dir(prefix, task_id)}/attempts/{attempt}/{name}"
