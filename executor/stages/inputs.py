"""Fetching and unpacking the inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.archive import save_stamps, snapshot
from executor.attempt import StageFailed
from executor.transfer import TransferFailed
from simherd.contract.archive import ArchiveRejected, unpack
from simherd.contract.objects import INPUT_ROOT, normalise
from simherd.contract.operations import Metric, Operation
from simherd.contract.outcome import Cause

if TYPE_CHECKING:
    from pathlib import Path

    from executor.attempt import Attempt


def fetch_inputs(attempt: Attempt) -> None:
    """Download the input archive and the remote assets, and lay out the work folder.

    Raises:
        StageFailed: something is missing or was refused.
    """
    archive = attempt.folder / "input.zip"
    try:
        with attempt.operation(Operation.DOWNLOAD_INPUT, Metric.INPUT_DOWNLOAD_SECONDS):
            attempt.transfer.download(attempt.spec.input_url, archive)
            assets = [_fetch_asset(attempt, i) for i in range(len(attempt.spec.input_files))]
    except TransferFailed as error:
        detail = f"The inputs could not be fetched: {error}"
        raise StageFailed(Cause.INPUT_INVALID, detail) from error
    attempt.switch.check()
    with attempt.operation(Operation.UNCOMPRESS_INPUT, Metric.INPUT_DECOMPRESSION_SECONDS):
        _lay_out(attempt, archive)
        for path, name in assets:
            _place_asset(attempt, path, name)
    attempt.inputs = snapshot(attempt.work)
    save_stamps(attempt.inputs, attempt.stamps)
    total = sum(s.size for s in attempt.inputs.values())
    attempt.measured(**{Metric.INPUT_SIZE_BYTES.value: total})


def _lay_out(attempt: Attempt, archive: Path) -> None:
    unpacked = attempt.folder / "unpacked"
    try:
        unpack(archive, unpacked, check=attempt.switch.check)
    except ArchiveRejected as error:
        raise StageFailed(Cause.INPUT_INVALID, f"The input archive was refused: {error}") from error
    archive.unlink()
    inputs = unpacked / INPUT_ROOT
    if inputs.is_dir() and not inputs.is_symlink():
        inputs.rename(attempt.work)
    else:
        attempt.work.mkdir()


def _fetch_asset(attempt: Attempt, index: int) -> tuple[Path, str]:
    asset = attempt.spec.input_files[index]
    into = attempt.folder / f"asset-{index}"
    attempt.transfer.download(asset.url, into)
    return into, asset.path


def _place_asset(attempt: Attempt, source: Path, name: str) -> None:
    """Move an asset to where it belongs; what came in the input archive wins."""
    target = attempt.work / normalise(name)
    home = attempt.work.resolve()
    if not target.parent.resolve().is_relative_to(home):
        raise StageFailed(Cause.INPUT_INVALID, f"The asset {name!r} would leave the work folder.")
    if not target.exists() and not target.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
