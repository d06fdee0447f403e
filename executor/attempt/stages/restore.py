"""Putting the files of the newest good checkpoint back where they were."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import TYPE_CHECKING, Any

from executor.attempt.context import StageFailed
from executor.transfer.client import TransferFailed, TransferRefused
from simherd.contract.cause import Cause
from simherd.contract.objects import normalise
from simherd.contract.operations import Operation

if TYPE_CHECKING:
    from pathlib import Path

    from executor.attempt.context import Attempt

log = logging.getLogger(__name__)

_MISSING = 404


class _Bad(Exception):
    """A generation that cannot be gone on from."""


def restore(attempt: Attempt) -> int | None:
    """Put the newest good generation back; answers its number, None when there is none.

    Raises:
        StageFailed: the checkpoints could not be asked for.
        Stopped: the switch was tripped.
    """
    try:
        found = attempt.transfer.checkpoints(attempt.spec.grant)
    except TransferFailed as error:
        raise StageFailed(
            Cause.INPUT_INVALID, f"The checkpoint was not fetched: {error}"
        ) from error
    for generation in found:
        number = generation["generation"]
        try:
            with attempt.operation(Operation.RESTORE_CHECKPOINT, generation=number) as learnt:
                _fetch(attempt, generation["files"])
                learnt["files"] = len(generation["files"])
        except _Bad as error:
            log.error("event=bad_checkpoint attempt=%s %s %s", attempt.spec.key, number, error)
            continue
        except TransferFailed as error:
            # Nothing is wrong with it: another attempt may have it.
            detail = f"Checkpoint {number} could not be fetched: {error}"
            raise StageFailed(Cause.CONTACT_LOST, detail) from error
        return int(number)
    return None


def _fetch(attempt: Attempt, files: list[dict[str, Any]]) -> None:
    """All of them are fetched and found right before the first is put in its place."""
    fetched = attempt.folder / "checkpoint"
    fetched.mkdir(exist_ok=True)
    for index, file in enumerate(files):
        into = fetched / str(index)
        try:
            attempt.transfer.download(file["url"], into)
        except TransferRefused as error:
            if error.status != _MISSING:
                raise
            raise _Bad(f"{file['path']!r} is not there any more") from error
        with into.open("rb") as reader:
            if hashlib.file_digest(reader, "sha256").hexdigest() != file["sha256"]:
                raise _Bad(f"{file['path']!r} is not as it was saved")
    for index, file in enumerate(files):
        _place(attempt, fetched / str(index), file)


def _place(attempt: Attempt, source: Path, file: dict[str, Any]) -> None:
    try:
        target = attempt.work / normalise(file["path"])
    except ValueError as error:
        raise _Bad(f"{file['path']!r}: {error}") from error
    home = attempt.work.resolve()
    if not target.parent.resolve().is_relative_to(home):
        raise _Bad(f"{file['path']!r} would leave the work folder")
    if target.is_dir() and not target.is_symlink():
        raise _Bad(f"{file['path']!r} is a folder among the inputs")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise _Bad(f"{file['path']!r} has a file of the inputs as its folder") from error
    source.replace(target)
    os.chmod(target, file["mode"] & 0o777)
    os.utime(target, ns=(file["mtime_ns"], file["mtime_ns"]))
