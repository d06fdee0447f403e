"""Fetching and unpacking the inputs."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from executor.archive import save_stamps, snapshot
from executor.attempt.errors import StageFailed
from executor.transfer.client import ObjectChanged, TransferFailed
from simherd.contract.archive import ArchiveRejected, unpack
from simherd.contract.cause import Cause
from simherd.contract.objects import INPUT_ROOT, normalise
from simherd.contract.operations import Metric, Operation

if TYPE_CHECKING:
    from pathlib import Path

    from executor.attempt.context import Attempt


def fetch_inputs(attempt: Attempt) -> None:
    """Download the input archives and the remote assets, and lay out the work folder.
    Raises StageFailed: something is missing or was refused."""
    spec = attempt.spec
    with attempt.operation(Operation.DOWNLOAD_INPUT, Metric.INPUT_DOWNLOAD_SECONDS):
        archives = [
            _fetch(attempt, url, f"input-{i}.zip", f"shared input {i + 1}")
            for i, url in enumerate(spec.shared_inputs)
        ]
        if spec.input_url is not None:
            name = f"input-{len(archives)}.zip"
            archives.append(
                _fetch(attempt, spec.input_url, name, "input archive", spec.input_bytes)
            )
        assets = [
            (_fetch(attempt, asset.url, f"asset-{i}", f"asset {asset.path!r}"), asset.path)
            for i, asset in enumerate(spec.input_files)
        ]
    attempt.switch.check()
    with attempt.operation(Operation.UNCOMPRESS_INPUT, Metric.INPUT_DECOMPRESSION_SECONDS):
        for archive in archives:
            _lay_out(attempt, archive)
        attempt.work.mkdir(exist_ok=True)
        for path, name in assets:
            _place_asset(attempt, path, name)
    attempt.state.inputs = snapshot(attempt.work)
    save_stamps(attempt.state.inputs, attempt.stamps)
    total = sum(s.size for s in attempt.state.inputs.values())
    attempt.report_metrics(**{Metric.INPUT_SIZE_BYTES.value: total})


def _fetch(attempt: Attempt, url: str, name: str, what: str, size: int | None = None) -> Path:
    """Download one of the inputs; error messages name it `what`."""
    into = attempt.folder / name
    try:
        attempt.transfer.download(url, into, size)
    except ObjectChanged as error:
        detail = f"The {what} was replaced after the task was submitted: {error}."
        raise StageFailed(Cause.INPUT_INVALID, detail) from error
    except TransferFailed as error:
        detail = f"The inputs could not be fetched: the {what}: {error}"
        raise StageFailed(Cause.INPUT_INVALID, detail) from error
    return into


def _lay_out(attempt: Attempt, archive: Path) -> None:
    """Unpack an archive into the work folder, over the files of earlier archives."""
    unpacked = attempt.folder / "unpacked"
    try:
        unpack(archive, unpacked, check=attempt.switch.check)
    except ArchiveRejected as error:
        raise StageFailed(Cause.INPUT_INVALID, f"The input archive was refused: {error}") from error
    archive.unlink()
    inputs = unpacked / INPUT_ROOT
    if inputs.is_dir() and not inputs.is_symlink():
        if attempt.work.exists():
            _put_over(inputs, attempt.work)
        else:
            inputs.rename(attempt.work)
    shutil.rmtree(unpacked)


def _put_over(source: Path, target: Path) -> None:
    """Move what is in a folder into another one. Nothing runs yet that could exchange anything."""
    for item in list(source.iterdir()):
        place = target / item.name
        folders = [path.is_dir() and not path.is_symlink() for path in (item, place)]
        if all(folders):
            _put_over(item, place)
        elif any(folders) and os.path.lexists(place):
            detail = f"The inputs hold {item.name!r} both as a folder and as a file."
            raise StageFailed(Cause.INPUT_INVALID, detail)
        else:
            item.replace(place)


def _place_asset(attempt: Attempt, source: Path, name: str) -> None:
    """Move an asset to where it belongs; what came in the input archive wins."""
    target = attempt.work / normalise(name)
    home = attempt.work.resolve()
    if not target.parent.resolve().is_relative_to(home):
        raise StageFailed(Cause.INPUT_INVALID, f"The asset {name!r} would leave the work folder.")
    if not target.exists() and not target.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
