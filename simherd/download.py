"""Downloads of a task's archives, with a progress bar where somebody looks."""

from __future__ import annotations

import sys
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from simherd import archive, transfer
from simherd.config import output_path
from simherd.contract.objects import OUTPUT_ROOT
from simherd.errors import InvalidInput, TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def download_archive(
    url: str, root: str, folder: str, uncompress: bool, remove_archive: bool
) -> Path:
    """Fetch a whole archive into `folder`, and unpack it there without its folder `root`."""
    target = output_path(folder)
    file = target / ("output.zip" if root == OUTPUT_ROOT else "input.zip")
    with _bar(file.name) as progress:
        transfer.download(url, file, progress)
    if uncompress:
        archive.extract_all(file, target, root)
        if remove_archive:
            file.unlink()
    return target


def download_members(url: str, root: str, filenames: list[str], folder: str) -> Path:
    """Fetch some files of an archive into `folder`: all of them, or none where one is missing.

    Raises:
        InvalidInput: a file is not in the archive.
        TransferError: one could not be fetched whole.
    """
    target = output_path(folder)
    with transfer.remote_file(url) as remote:
        try:
            with zipfile.ZipFile(remote) as opened:
                known = {i.filename: i for i in opened.infolist() if not i.is_dir()}
                missing = [n for n in filenames if f"{root}/{n}" not in known]
                if missing:
                    raise InvalidInput(
                        f"filenames: {', '.join(map(repr, missing))} not in the archive. "
                        "Task.get_output_info() lists what is."
                    )
                for name in filenames:
                    archive.extract_member(opened, known[f"{root}/{name}"], target, name)
        except zipfile.BadZipFile as error:
            raise TransferError(f"The archive of the task is broken: {error}.") from error
    return target


@contextmanager
def _bar(name: str) -> Iterator[transfer.Progress | None]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        line = shown.add_task(name)
        yield lambda have, size: shown.update(line, completed=have, total=size)
