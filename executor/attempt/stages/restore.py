"""Restoring the files of the newest good checkpoint."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import TYPE_CHECKING, Any

from executor.attempt.errors import StageFailed
from executor.transfer.client import TransferFailed, TransferRefused
from simherd.contract.cause import Cause
from simherd.contract.objects import normalise
from simherd.contract.operations import Operation

if TYPE_CHECKING:
    from pathlib import Path

    from executor.attempt.context import Attempt

log = logging.getLogger(__name__)

_MISSING = 404


class _BadCheckpoint(Exception):
    """The attempt cannot continue from this generation."""


def restore(attempt: Attempt) -> int | None:
    """Restore the newest good generation; returns its number, or None if there is none.

    Raises:
        StageFailed: the list of checkpoints, or a good one, could not be fetched.
        Stopped: the switch was tripped.
    """
    try:
        generations = attempt.transfer.checkpoints(attempt.spec.grant)
    except TransferFailed as error:
        raise StageFailed(
            Cause.INPUT_INVALID, f"The checkpoint was not fetched: {error}"
        ) from error
    for generation in generations:
        number = generation["generation"]
        try:
            with attempt.operation(Operation.RESTORE_CHECKPOINT, generation=number) as result:
                _fetch(attempt, generation["files"])
                result["files"] = len(generation["files"])
        except _BadCheckpoint as error:
            log.error("event=bad_checkpoint attempt=%s %s %s", attempt.spec.key, number, error)
            continue
        except TransferFailed as error:
            # The checkpoint itself is good: another attempt may fetch it.
            detail = f"Checkpoint {number} could not be fetched: {error}"
            raise StageFailed(Cause.CONTACT_LOST, detail) from error
        return int(number)
    return None


def _fetch(attempt: Attempt, files: list[dict[str, Any]]) -> None:
    """Fetch and verify all files before the first one replaces a file of the work folder."""
    fetched = attempt.folder / "checkpoint"
    fetched.mkdir(exist_ok=True)
    for index, file in enumerate(files):
        into = fetched / str(index)
        try:
            attempt.transfer.download(file["url"], into)
        except TransferRefused as error:
            if error.status != _MISSING:
                raise
            raise _BadCheckpoint(f"{file['path']!r} does not exist any more") from error
        with into.open("rb") as reader:
            if hashlib.file_digest(reader, "sha256").hexdigest() != file["sha256"]:
                raise _BadCheckpoint(f"{file['path']!r} is not as it was saved")
    for index, file in enumerate(files):
        _place(attempt, fetched / str(index), file)


def _place(attempt: Attempt, source: Path, file: dict[str, Any]) -> None:
    try:
        target = attempt.work / normalise(file["path"])
    except ValueError as error:
        raise _BadCheckpoint(f"{file['path']!r}: {error}") from error
    home = attempt.work.resolve()
    if not target.parent.resolve().is_relative_to(home):
        raise _BadCheckpoint(f"{file['path']!r} would leave the work folder")
    if target.is_dir() and not target.is_symlink():
        raise _BadCheckpoint(f"{file['path']!r} is a folder among the inputs")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise _BadCheckpoint(f"{file['path']!r} has a file of the inputs as its folder") from error
    source.replace(target)
    os.chmod(target, file["mode"] & 0o777)
    os.utime(target, ns=(file["mtime_ns"], file["mtime_ns"]))
