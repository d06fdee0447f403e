"""Putting the files of the newest good checkpoint back where they were."""

from __future__ import annotations

import hashlib
import logging
import os
from typing import TYPE_CHECKING, Any

from executor.attempt import StageFailed
from executor.transfer import TransferFailed
from simherd.contract.objects import normalise
from simherd.contract.operations import Operation
from simherd.contract.outcome import Cause

if TYPE_CHECKING:
    from pathlib import Path

    from executor.attempt import Attempt

log = logging.getLogger(__name__)


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
        except (_Bad, TransferFailed) as error:
            log.error("event=bad_checkpoint attempt=%s %s %s", attempt.spec.key, number, error)
            continue
        return int(number)
    return None


def _fetch(attempt: Attempt, files: list[dict[str, Any]]) -> None:
    """All of them are fetched and found right before the first is put in its place."""
    fetched = attempt.folder / "checkpoint"
    fetched.mkdir(exist_ok=True)
    for index, file in enumerate(files):
        into = fetched / str(index)
        attempt.transfer.download(file["url"], into)
        with into.open("rb") as reader:
            if hashlib.file_digest(reader, "sha256").hexdigest() != file["sha256"]:
                raise _Bad(f"{file['path']!r} is not as it was saved")
    for index, file in enumerate(files):
        _place(attempt, fetched / str(index), file)


def _place(attempt: Attempt, source: Path, file: dict[str, Any]) -> None:
    target = attempt.work / normalise(file["path"])
    home = attempt.work.resolve()
    if not target.parent.resolve().is_relative_to(home):
        raise _Bad(f"{file['path']!r} would leave the work folder")
    if target.is_dir() and not target.is_symlink():
        raise _Bad(f"{file['path']!r} is a folder among the inputs")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    os.chmod(target, file["mode"] & 0o777)
    os.utime(target, ns=(file["mtime_ns"], file["mtime_ns"]))
