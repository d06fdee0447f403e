"""Downloads of a task's archives, with a progress bar where somebody looks."""

from __future__ import annotations

import sys
import threading
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from simherd.config import output_path
from simherd.contract.objects import OUTPUT_ROOT
from simherd.errors import TransferError
from simherd.transfers import input_archive, ranged_download, signed_url
from simherd.transfers.zip_members import MemberDownload
from simherd.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def download_archive(
    url: str, root: str, folder: str, uncompress: bool, remove_archive: bool
) -> Path:
    """Fetch a whole archive into `folder`, and unpack it there without its folder `root`."""
    target = output_path(folder)
    file = target / ("output.zip" if root == OUTPUT_ROOT else "input.zip")
    with progress_bar(file.name) as progress:
        ranged_download.download(url, file, progress)
    if uncompress:
        input_archive.extract_all(file, target, root)
        if remove_archive:
            file.unlink()
    else:
        _verify(file)
    return target


def _verify(file: Path) -> None:
    """Raise TransferError where the archive is not what was packed: what is unpacked is checked by
    that."""
    try:
        with zipfile.ZipFile(file) as opened:
            broken = opened.testzip()
    except (zipfile.BadZipFile, zlib.error) as error:
        raise TransferError(f"{file} is broken: {error}") from error
    if broken is not None:
        raise TransferError(f"{file} is broken at {broken}. Download it again.")


def download_members(url: str, root: str, filenames: list[str], folder: str) -> Path:
    """Fetch some files of an archive into `folder`, by name, folder or pattern.

    Raises:
        InvalidInput: something is not in the archive; nothing was fetched.
        TransferError: something could not be fetched whole.
    """
    target = output_path(folder)
    with progress_bar(f"{len(filenames)} files" if len(filenames) > 1 else filenames[0]) as shown:
        MemberDownload(url, root, target, shown or (lambda _have, _size: None)).run(filenames)
    return target


@contextmanager
def progress_bar(name: str) -> Iterator[signed_url.Progress | None]:
    """A progress bar: a function of the bytes done and of all; None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        line = shown.add_task(escape(visible_line(name)))
        yield lambda have, size: shown.update(line, completed=have, total=size)


class Total:
    """One bar for several transfers: the sum of what each has done."""

    def __init__(self, shown: signed_url.Progress | None) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._have = self._size = 0

    def part(self, size: int) -> signed_url.Progress:
        """Return the progress function of one transfer of `size` bytes, which may start over."""
        self._size += size
        before = 0

        def report(have: int, _size: int) -> None:
            nonlocal before
            with self._lock:
                self._have, before = self._have + have - before, have
                if self._shown is not None:
                    self._shown(self._have, self._size)

        return report
